"""Expiring snapshots: what stays, and that no row of any table is lost by it.

Does not belong here: compaction, orphans, sudden death; each has a file of its own.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from mlops_platform import settings
from mlops_platform.cli import app
from mlops_platform.contracts import PREDICTIONS, SILVER_CUSTOMERS, STANDARD, TableContract
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.errors import StorageError
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.maintenance import maintain, referenced_snapshots
from mlops_platform.storage.publish import Draft

DAY = timedelta(days=1)
TICK = datetime(2024, 7, 1, tzinfo=UTC)


def row(contract: TableContract, **cells: Any) -> dict[str, Any]:
    """A row with a plain value in every column."""
    plain: dict[str, Any] = {}
    for field in arrow_schema(contract):
        if pa.types.is_string(field.type):
            plain[field.name] = "bronze"
        elif pa.types.is_temporal(field.type):
            plain[field.name] = date(2024, 7, 1) if pa.types.is_date(field.type) else TICK
        else:
            plain[field.name] = 1
    return {**plain, **cells}


def table(contract: TableContract, *rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([row(contract, **cells) for cells in rows], schema=arrow_schema(contract))


def publish_customers(lake: Lake, times: int) -> list[int]:
    """Publishes one more customer each time; returns the snapshot a person would name, after each."""
    found = []
    for number in range(1, times + 1):
        customers = [{"customer_id": f"c{n}"} for n in range(number)]
        snapshot = lake.publish(Draft(SILVER_CUSTOMERS, table(SILVER_CUSTOMERS, *customers))).snapshot_id
        assert snapshot is not None
        found.append(snapshot)
    return found


def held(lake: Lake, contract: TableContract = SILVER_CUSTOMERS) -> list[int]:
    """Snapshots the table has."""
    found = lake.snapshot(contract).table
    return [s.snapshot_id for s in found.snapshots()] if found is not None else []


def made_at(lake: Lake, snapshot_id: int) -> datetime:
    """The instant a snapshot was made."""
    found = lake.snapshot(SILVER_CUSTOMERS).table
    snapshot = found.snapshot_by_id(snapshot_id) if found is not None else None
    assert snapshot is not None
    return datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)


def expired(lake: Lake, **arguments: Any) -> dict[str, int]:
    """Maintains; table name to the number of snapshots expired."""
    return {done.table: done.snapshots_expired for done in maintain(lake, **arguments)}


class TestExpiring:
    def test_the_current_and_the_referenced_ones_stay(self, lake: Lake) -> None:
        first, second, third, last = publish_customers(lake, 4)
        before, now = len(held(lake)), made_at(lake, last) + 400 * DAY
        assert expired(lake, now=now, keep={second}) == {SILVER_CUSTOMERS.name: before - 2}
        assert set(held(lake)) == {second, last}
        for gone in (first, third):
            with pytest.raises(StorageError, match=f"no snapshot {gone}"):
                lake.snapshot(SILVER_CUSTOMERS).at(gone)

    def test_every_row_can_still_be_read(self, lake: Lake) -> None:
        _, second, _, last = publish_customers(lake, 4)
        rows = lake.snapshot(SILVER_CUSTOMERS).to_arrow(order_by=["customer_id"])
        expired(lake, now=made_at(lake, last) + 400 * DAY, keep={second})
        after = lake.snapshot(SILVER_CUSTOMERS)
        assert after.snapshot_id == last
        assert after.count() == 4
        assert after.to_arrow(order_by=["customer_id"]).equals(rows)
        assert after.at(second).count() == 2
        assert Lake(lake.settings).snapshot(SILVER_CUSTOMERS).count() == 4

    def test_young_ones_stay(self, lake: Lake) -> None:
        first, second, third, last = publish_customers(lake, 4)
        now = made_at(lake, third) + 30 * DAY
        expired(lake, now=now, keep=())
        left = held(lake)
        assert first not in left
        assert second not in left
        assert {third, last} <= set(left)

    def test_how_young_is_a_choice(self, lake: Lake) -> None:
        snapshots = publish_customers(lake, 3)
        now = made_at(lake, snapshots[-1]) + 8 * DAY
        assert expired(lake, now=now, keep=()) == {SILVER_CUSTOMERS.name: 0}
        assert set(snapshots) <= set(held(lake))
        expired(lake, now=now, keep=(), keep_days=7)
        assert held(lake) == snapshots[-1:]

    def test_what_a_tag_or_branch_names_stays(self, lake: Lake) -> None:
        first, second, third, last = publish_customers(lake, 4)
        found = lake.snapshot(SILVER_CUSTOMERS).table
        assert found is not None
        found.manage_snapshots().create_tag(first, "audited").create_branch(second, "trial").commit()
        expired(lake, now=made_at(lake, last) + 400 * DAY, keep=())
        assert set(held(lake)) == {first, second, last}
        assert third not in held(lake)
        assert lake.snapshot(SILVER_CUSTOMERS).at(first).count() == 1

    def test_again_nothing_is_left_to_expire(self, lake: Lake) -> None:
        last = publish_customers(lake, 3)[-1]
        now = made_at(lake, last) + 400 * DAY
        assert expired(lake, now=now, keep=())[SILVER_CUSTOMERS.name] > 0
        assert expired(lake, now=now, keep=()) == {SILVER_CUSTOMERS.name: 0}

    def test_publishing_goes_on_afterwards(self, lake: Lake) -> None:
        last = publish_customers(lake, 3)[-1]
        expired(lake, now=made_at(lake, last) + 400 * DAY, keep=())
        again = lake.publish(Draft(SILVER_CUSTOMERS, table(SILVER_CUSTOMERS, *({"customer_id": c} for c in "xyz"))))
        assert again.is_new
        assert lake.snapshot(SILVER_CUSTOMERS).count() == 3

    def test_an_empty_home_has_nothing_to_expire(self, lake: Lake) -> None:
        assert expired(lake, now=TICK, keep=()) == {}
        assert referenced_snapshots(lake) == set()


def predict(lake: Lake, tick: datetime, feature_snapshot_id: int) -> int:
    """Publishes the predictions of a tick, made from a snapshot of the features."""
    cells = {"prediction_id": f"{tick}", "tick": tick, "feature_snapshot_id": feature_snapshot_id}
    draft = Draft(
        PREDICTIONS,
        table(PREDICTIONS, cells),
        scope=(Condition("tick", "=", tick),),
        properties={"feature-snapshot-id": str(feature_snapshot_id), "model-version": "1"},
    )
    return int(lake.publish(draft).snapshot_id or 0)


class TestReferenced:
    def test_training_sets_and_what_they_were_made_from(self, lake: Lake) -> None:
        made = []
        for number in (1, 2):
            rows = table(STANDARD.training_set, {"split": "train", "customer_id": f"c{number}"})
            names = {"feature-snapshot-id": f"{number}01", "label-snapshot-id": f"{number}02", "as-of": "2024-07-01"}
            made.append(lake.publish(Draft(STANDARD.training_set, rows, properties=names)).snapshot_id)
        assert referenced_snapshots(lake) >= {*made, 101, 102, 201, 202}

    def test_what_a_current_snapshot_names(self, lake: Lake) -> None:
        for bronze in (5, 6):
            rows = table(SILVER_CUSTOMERS, {"customer_id": f"c{bronze}"})
            lake.publish(Draft(SILVER_CUSTOMERS, rows, properties={"bronze-snapshot-id": str(bronze)}))
        assert referenced_snapshots(lake) == {6}

    def test_the_features_that_predictions_were_made_from(self, lake: Lake) -> None:
        predict(lake, TICK, 11)
        predict(lake, TICK + timedelta(hours=6), 12)
        assert referenced_snapshots(lake) >= {11, 12}

    def test_a_training_set_that_is_referenced_outlives_maintenance(self, lake: Lake) -> None:
        training_set = STANDARD.training_set
        first, second = (
            lake.publish(Draft(training_set, table(training_set, {"split": "train", "customer_id": c}))).snapshot_id
            for c in "ab"
        )
        later = datetime.now(UTC) + 400 * DAY
        expired(lake, now=later, keep=referenced_snapshots(lake))
        assert {first, second} <= set(held(lake, STANDARD.training_set))

    def test_what_a_prediction_names_is_referenced_as_long_as_the_row_stands(self, lake: Lake) -> None:
        predict(lake, TICK, 11)
        predict(lake, TICK + timedelta(hours=6), 12)
        expired(lake, now=datetime.now(UTC) + 400 * DAY, keep=referenced_snapshots(lake))
        rows = lake.snapshot(PREDICTIONS).to_arrow(["feature_snapshot_id"])
        assert sorted(rows["feature_snapshot_id"].to_pylist()) == [11, 12]
        assert referenced_snapshots(lake) >= {11, 12}


@pytest.fixture
def no_exports(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command is a process of its own; here its variables would reach the tests after it."""
    monkeypatch.setattr(settings, "apply_exports", lambda _: None)


@pytest.mark.usefixtures("no_exports")
class TestCommand:
    def test_it_says_what_it_did_or_would_do(self, lake: Lake) -> None:
        publish_customers(lake, 3)
        home = ["--home", str(lake.settings.home), "--keep-days", "0"]
        said = CliRunner().invoke(app, ["maintain", "--dry-run", *home])
        assert said.exit_code == 0, said.output
        assert "Nothing was changed" in said.output
        assert len(held(lake)) == 3
        done = CliRunner().invoke(app, ["maintain", *home])
        assert SILVER_CUSTOMERS.name in done.output
        assert len(held(lake)) == 1
        assert "Nothing to do in 1 tables" in CliRunner().invoke(app, ["maintain", *home]).output

    def test_files_younger_than_a_day_are_never_deleted(self, lake: Lake) -> None:
        refused = CliRunner().invoke(app, ["maintain", "--orphan-days", "0", "--home", str(lake.settings.home)])
        assert refused.exit_code == 2
