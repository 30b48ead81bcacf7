"""Publishing: what is replaced, what is refused, and that equal content is no new snapshot."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.exceptions import CommitStateUnknownException, ValidationException
from pyiceberg.table.update.snapshot import _OverwriteFiles
from sqlalchemy.exc import OperationalError

from mlops_platform.contracts import Column, ColumnType, Replace, TableContract
from mlops_platform.errors import ConflictError, ContractError, SettingsError, StorageError
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage import commit as committing
from mlops_platform.storage.audit import CheckOutcome
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft, publish_audited
from mlops_platform_tests.unit.storage.things import APPEND, AT, FEB, JAN, RANGE, TABLE, draft, on, rows

LATER = AT + timedelta(hours=1)


def things(lake: Lake, contract: TableContract = RANGE) -> list[str]:
    return lake.snapshot(contract).to_arrow(["thing"], order_by=["thing"])["thing"].to_pylist()


class TestReplacing:
    def test_rows_come_back_as_they_were(self, lake: Lake) -> None:
        mixed = pa.concat_tables([rows("a", size=None, colour=None), rows("é'\"\n", price=Decimal("-0.01"))])
        lake.publish(Draft(RANGE, mixed, scope=on(JAN)))
        assert lake.snapshot(RANGE).to_arrow(order_by=["thing"]).equals(mixed)

    def test_append_keeps_what_is_there(self, lake: Lake) -> None:
        first, second = lake.publish(Draft(APPEND, rows("a"))), lake.publish(Draft(APPEND, rows("b")))
        assert (first.is_new, second.is_new) == (True, True)
        assert (first.rows, second.rows) == (1, 2)  # what the table holds now
        assert things(lake, APPEND) == ["a", "b"]

    def test_appending_nothing_commits_nothing(self, lake: Lake) -> None:
        first = lake.publish(Draft(APPEND, rows("a")))
        again = lake.publish(Draft(APPEND, rows()))
        assert (again.is_new, again.snapshot_id, again.rows) == (False, first.snapshot_id, 1)

    def test_table_replaces_everything(self, lake: Lake) -> None:
        lake.publish(Draft(TABLE, pa.concat_tables([rows("a"), rows("b", day=FEB)])))
        lake.publish(Draft(TABLE, rows("c")))
        assert things(lake, TABLE) == ["c"]

    def test_range_replaces_its_range_only(self, lake: Lake) -> None:
        # Both days of January lie in one partition: the range is cut by rows, not by files.
        before = JAN - timedelta(days=1)
        for day, thing in ((before, "a"), (JAN, "b"), (FEB, "c")):
            lake.publish(draft(thing, day=day))
        assert lake.publish(draft("d", "e", day=JAN)).rows == 2
        assert things(lake) == ["a", "c", "d", "e"]

    def test_an_empty_range_empties_it(self, lake: Lake) -> None:
        lake.publish(draft("a"))
        lake.publish(draft("b", day=FEB))
        assert lake.publish(draft()).is_new
        assert things(lake) == ["b"]

    def test_a_scope_over_two_months(self, lake: Lake) -> None:
        scope = (Condition("day", ">=", JAN), Condition("day", "<=", FEB))
        lake.publish(Draft(RANGE, pa.concat_tables([rows("a"), rows("b", day=FEB)]), scope=scope))
        lake.publish(Draft(RANGE, rows("c", day=FEB), scope=scope))
        assert things(lake) == ["c"]

    def test_the_snapshot_carries_the_drafts_and_the_runs_properties(self, lake: Lake) -> None:
        lake.publish(replace(draft("a"), properties={"watermark": "2024-01-31"}), properties={"run-id": "r1"})
        assert lake.properties(RANGE).items() >= {"watermark": "2024-01-31", "run-id": "r1"}.items()
        assert lake.properties(APPEND) == {}

    @pytest.mark.parametrize("wrong", [Draft(RANGE, rows("a")), Draft(TABLE, rows("a"), scope=on(JAN))])
    def test_only_a_range_table_has_a_scope(self, lake: Lake, wrong: Draft) -> None:
        with pytest.raises(ValueError, match="scope"):
            publish_audited(lake.settings, wrong)


class TestEqualContent:
    @pytest.mark.parametrize("contract", [RANGE, TABLE], ids=lambda contract: contract.name)
    def test_equal_rows_in_any_order_keep_the_snapshot(self, lake: Lake, contract: TableContract) -> None:
        scope = on(JAN) if contract.replace is Replace.RANGE else ()
        first = lake.publish(Draft(contract, rows("a", "b"), scope=scope))
        again = lake.publish(Draft(contract, rows("b", "a", at=LATER), scope=scope))
        assert (again.is_new, again.snapshot_id) == (False, first.snapshot_id)
        # What was not committed was not written either: the volatile column is the old one.
        assert set(lake.snapshot(contract).to_arrow()["_at"].to_pylist()) == {AT}

    @pytest.mark.parametrize(
        "other",
        [
            draft("a"),
            draft("a", "b", "c"),
            draft("a", "B"),
            draft("a", "b", size=None),
            draft("a", "b", size=1.5000000000000002),
            draft("a", "b", price=Decimal("9.98")),
            Draft(RANGE, pa.concat_tables([rows("a", colour="blue"), rows("b")]), scope=on(JAN)),
        ],
    )
    def test_any_difference_is_a_new_snapshot(self, lake: Lake, other: Draft) -> None:
        first = lake.publish(draft("a", "b"))
        second = lake.publish(other)
        assert second.is_new
        assert second.snapshot_id != first.snapshot_id

    def test_values_exchanged_between_rows_are_a_difference(self, lake: Lake) -> None:
        lake.publish(Draft(TABLE, pa.concat_tables([rows("a", size=1.0), rows("b", size=2.0)])))
        assert lake.publish(Draft(TABLE, pa.concat_tables([rows("a", size=2.0), rows("b", size=1.0)]))).is_new

    def test_other_ranges_do_not_matter(self, lake: Lake) -> None:
        lake.publish(draft("a"))
        last = lake.publish(draft("b", day=FEB))
        again = lake.publish(draft("a"))
        assert (again.is_new, again.snapshot_id) == (False, last.snapshot_id)

    def test_the_first_publish_of_nothing_makes_the_table(self, lake: Lake) -> None:
        first = lake.publish(draft())
        assert (first.is_new, first.rows) == (True, 0)
        assert lake.publish(draft()).snapshot_id == first.snapshot_id


BAD_ROWS: dict[str, tuple[pa.Table, str]] = {
    "outside the range": (rows("a", day=FEB), "rows_in_range: 1 rows lie outside"),
    "repeated key": (rows("a", "b", "a"), r"key_is_unique: repeated thing \+ day: 1"),
    "null": (rows("a", price=None), "no_nulls: price null: 1"),
    "null in the range column": (rows("a", day=None), "no_nulls: day null: 1"),
    "above its bound": (rows("a", size=100.1), "values_in_contract: size out of contract: 1"),
    "below its bound": (rows("a", size=-0.1), "values_in_contract: size out of contract: 1"),
    "not an allowed value": (rows("a", colour="green"), "values_in_contract: colour out of contract: 1"),
    "NaN": (rows("a", length=float("nan")), "values_in_contract: length out of contract: 1"),
    "infinite": (rows("a", length=float("-inf")), "values_in_contract: length out of contract: 1"),
    "missing column": (rows("a").drop_columns(["size"]), r"missing columns \['size'\]"),
    "unknown column": (rows("a").append_column("extra", pa.array([1])), r"unknown columns \['extra'\]"),
    "no number": (rows("a").set_column(3, "size", pa.array(["large"])), "large"),
    "money with half a cent": (rows("a").set_column(2, "price", pa.array([Decimal("0.005")])), "test.by_range"),
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A table of one thing; one for all refusals, since none of them changes it."""
    lake = Lake(load_settings(home=tmp_path_factory.mktemp("published")))
    lake.publish(draft("a"))
    return lake


class TestRefusal:
    @pytest.mark.parametrize("case", BAD_ROWS)
    def test_the_table_stays_as_it_was_and_the_error_says_why(self, published: Lake, case: str) -> None:
        bad, message = BAD_ROWS[case]
        before = published.snapshot(RANGE)
        with pytest.raises(ContractError, match=message):
            published.publish(Draft(RANGE, bad, scope=on(JAN)))
        after = published.snapshot(RANGE)
        assert after.snapshot_id == before.snapshot_id
        assert after.to_arrow().equals(before.to_arrow())

    def test_every_failed_check_is_named(self, lake: Lake) -> None:
        bad = pa.concat_tables([rows("a", "a", size=-1.0), rows(None, day=FEB)])  # type: ignore[arg-type]
        with pytest.raises(ContractError) as refused:
            lake.publish(Draft(RANGE, bad, scope=on(JAN)))
        for name in ("key_is_unique", "no_nulls", "values_in_contract", "rows_in_range"):
            assert name in str(refused.value)
        assert lake.snapshot(RANGE).snapshot_id is None

    def test_a_pipelines_own_blocking_check_blocks(self, lake: Lake) -> None:
        failed = CheckOutcome("mine", passed=False, message="too few")
        with pytest.raises(ContractError, match="mine: too few"):
            lake.publish(replace(draft("a"), checks=(failed,)))
        assert lake.publish(replace(draft("a"), checks=(replace(failed, is_blocking=False),))).is_new

    def test_quarantined_rows_are_published_though_the_rest_is_not(self, lake: Lake) -> None:
        failed = CheckOutcome("mine", passed=False)
        with pytest.raises(ContractError):
            lake.publish(replace(draft("a"), checks=(failed,), quarantine=Draft(TABLE, rows("bad"))))
        assert things(lake, TABLE) == ["bad"]
        assert things(lake) == []

    def test_audit_reports_without_writing(self, lake: Lake) -> None:
        outcomes = {outcome.name: outcome.passed for outcome in draft("a", "a").audit()}
        assert outcomes == {
            "schema": True,
            "key_is_unique": False,
            "no_nulls": True,
            "values_in_contract": True,
            "rows_in_range": True,
        }
        assert lake.snapshot(RANGE).table is None


class TestTimeZone:
    def test_another_business_time_zone_is_refused(self, lake: Lake) -> None:
        lake.publish(draft("a"))
        elsewhere = Lake(load_settings(home=lake.settings.home, timezone="America/Sao_Paulo"))
        with pytest.raises(StorageError, match="MLOPS_TIMEZONE=UTC"):
            elsewhere.snapshot(RANGE)
        with pytest.raises(StorageError, match="America/Sao_Paulo"):
            elsewhere.publish(draft("b"))
        assert things(lake) == ["a"]

    def test_instants_do_not_depend_on_it(self, tmp_path: Path) -> None:
        there = Lake(load_settings(home=tmp_path / "there", timezone="America/Sao_Paulo"))
        there.publish(draft("a"))
        assert there.snapshot(RANGE).to_arrow()["_at"].to_pylist() == [AT]


GREW = replace(RANGE, columns=(*RANGE.columns, Column("weight", ColumnType.DOUBLE, "Its weight", ge=0)))


class TestContractThatGrew:
    def test_old_rows_have_null_and_new_rows_the_value(self, lake: Lake) -> None:
        first = lake.publish(draft("a"))
        assert lake.snapshot(GREW).to_arrow()["weight"].to_pylist() == [None]
        heavy = rows("b", day=FEB).append_column("weight", pa.array([2.5]))
        lake.publish(Draft(GREW, heavy, scope=on(FEB)))
        now = lake.snapshot(GREW)
        assert now.to_arrow(["thing", "weight"], order_by=["thing"]).to_pylist() == [
            {"thing": "a", "weight": None},
            {"thing": "b", "weight": 2.5},
        ]
        assert first.snapshot_id is not None
        assert now.at(first.snapshot_id).to_arrow()["weight"].to_pylist() == [None]
        assert now.count([Condition("weight", ">", 2)]) == 1
        # Readers with the old contract go on.
        assert things(lake) == ["a", "b"]

    def test_new_rows_must_have_the_column(self, lake: Lake) -> None:
        lake.publish(draft("a"))
        with pytest.raises(ContractError, match="weight null: 1"):
            lake.publish(Draft(GREW, rows("b").append_column("weight", pa.array([None], pa.float64())), scope=on(JAN)))

    def test_a_condition_on_a_column_the_table_has_not_yet(self, lake: Lake) -> None:
        lake.publish(draft("a"))
        assert lake.snapshot(GREW).count([Condition("weight", ">", 2)]) == 0


def commit_fails(monkeypatch: pytest.MonkeyPatch, error: Exception, *, after: bool) -> list[str]:
    """Every catalog commit raises `error`, with `after` once it has taken effect; returns the list of calls."""
    real, calls = SqlCatalog.commit_table, []

    def commit_table(self: SqlCatalog, *args: Any, **kwargs: Any) -> Any:
        calls.append("commit")
        if after:
            real(self, *args, **kwargs)
        raise error

    monkeypatch.setattr(SqlCatalog, "commit_table", commit_table)
    monkeypatch.setattr(committing, "WAITS", (0.0, 0.0))
    return calls


class TestLostAnswer:
    @pytest.mark.parametrize("error", [CommitStateUnknownException("no answer"), OSError("connection reset")])
    @pytest.mark.parametrize("contract", [RANGE, APPEND], ids=lambda contract: contract.name)
    def test_a_commit_that_took_effect_has_exactly_one(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch, error: Exception, contract: TableContract
    ) -> None:
        scope = on(JAN) if contract is RANGE else ()
        lake.publish(Draft(contract, rows("a"), scope=scope))
        with monkeypatch.context() as patch:
            calls = commit_fails(patch, error, after=True)
            result = lake.publish(Draft(contract, rows("b", "c"), scope=scope))
        assert calls == ["commit"]
        assert (result.is_new, result.snapshot_id) == (True, lake.snapshot(contract).snapshot_id)
        assert things(lake, contract) == (["b", "c"] if contract is RANGE else ["a", "b", "c"])

    def test_a_commit_without_effect_is_an_error_and_can_be_repeated(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = lake.publish(draft("a"))
        with monkeypatch.context() as patch:
            commit_fails(patch, CommitStateUnknownException("no answer"), after=False)
            with pytest.raises(StorageError, match="run this again"):
                lake.publish(draft("b"))
        assert lake.snapshot(RANGE).snapshot_id == before.snapshot_id
        assert lake.publish(draft("b")).is_new
        assert things(lake) == ["b"]

    @pytest.mark.parametrize("after", [False, True])
    def test_a_failing_catalog_database_is_looked_up_like_a_lost_answer(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch, after: bool
    ) -> None:
        lake.publish(draft("a"))
        with monkeypatch.context() as patch:
            commit_fails(patch, OperationalError("COMMIT", {}, Exception("server closed the connection")), after=after)
            if after:
                assert lake.publish(draft("b")).is_new
            else:
                with pytest.raises(StorageError):
                    lake.publish(draft("b"))
        assert things(lake) == (["b"] if after else ["a"])


class TestFilesToRemove:
    def test_a_file_that_is_missed_though_it_is_there_is_looked_for_again(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lake.publish(draft("a"))
        real, answers = (
            _OverwriteFiles._deleted_entries,
            iter([ValidationException("Missing required files to delete")]),
        )

        def missed(self: Any) -> Any:
            for error in answers:
                raise error
            return real(self)

        monkeypatch.setattr(_OverwriteFiles, "_deleted_entries", missed)
        monkeypatch.setattr(committing, "WAITS", (0.0, 0.0))
        assert lake.publish(draft("b")).is_new
        assert things(lake) == ["b"]

    def test_a_file_that_another_has_removed_is_a_conflict(self, lake: Lake) -> None:
        lake.publish(draft("a"))
        held = lake.snapshot(RANGE)
        change = committing.replacement(held, on(JAN))
        lake.publish(draft("b"))
        assert held.table is not None
        with pytest.raises(ConflictError, match=r"test\.by_range was changed meanwhile"):
            committing.commit(held.table, change, {committing.PUBLISH_ID: "late"})
        assert things(lake) == ["b"]


def test_a_row_that_an_append_once_table_holds_is_not_appended_again(lake: Lake) -> None:
    keyed = replace(APPEND, key=("thing", "day"), append_once=("thing", "day"))
    lake.publish(Draft(keyed, rows("a", "b")))
    lake.publish(Draft(keyed, rows("a", "c")))
    assert things(lake, keyed) == ["a", "b", "c"]


AWKWARD_HOMES = ["with a space", "it's", "ünï 客", 'quo"te', "br[1]x", "st*r", "a=b", "semi;colon", "plus+", "thing=7"]


@pytest.mark.parametrize("name", ["per%20cent", "ha#sh", "que?stion"])
def test_a_home_that_file_addresses_cannot_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="MLOPS_HOME"):
        load_settings(home=tmp_path / name)


@pytest.mark.parametrize("name", AWKWARD_HOMES)
def test_a_home_may_have_any_name(tmp_path: Path, name: str) -> None:
    lake = Lake(load_settings(home=tmp_path / name))
    lake.publish(draft("a", "b"))
    assert not lake.publish(draft("b", "a")).is_new
    assert things(lake) == ["a", "b"]
    assert (tmp_path / name / "catalog.db").is_file()


def test_a_home_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    # A file where a folder should be stops the superuser too, whom permissions do not.
    (tmp_path / "file").write_text("")
    lake = Lake(load_settings(home=tmp_path / "file" / "home"))
    for attempt in (lambda: lake.snapshot(RANGE), lambda: lake.publish(draft("a"))):
        with pytest.raises(StorageError, match=r"can't be written.*MLOPS_HOME"):
            attempt()


def test_a_broken_catalog_is_a_storage_error(home: Settings) -> None:
    home.warehouse.mkdir(parents=True)
    (home.home / "catalog.db").write_bytes(b"no database" * 100)
    with pytest.raises(StorageError, match="not a database"):
        Lake(home).snapshot(RANGE)


def test_other_types_of_the_same_meaning_are_cast(lake: Lake) -> None:
    loose = pa.table(
        {
            "_at": pa.array([AT], pa.timestamp("ms", "America/Sao_Paulo")),
            "colour": pa.array(["red"]).dictionary_encode(),
            "length": pa.array([1.5], pa.float32()),
            "size": pa.array([2], pa.int16()),
            "price": pa.array([3], pa.int32()),
            "day": pa.array([datetime.combine(JAN, datetime.min.time())], pa.timestamp("s")),
            "thing": pa.array(["a"], pa.large_string()),
        }
    )
    lake.publish(Draft(RANGE, loose, scope=on(JAN)))
    (row,) = lake.snapshot(RANGE).to_arrow().to_pylist()
    cells = {"price": Decimal("3.00"), "size": 2.0, "colour": "red", "length": 1.5}
    assert row == {"thing": "a", "day": JAN, **cells, "_at": AT}
    assert type(row["day"]) is date
