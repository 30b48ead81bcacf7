"""The SQL that Trino and Athena get, and when they get none; its rows are tested in `engines/test_trino.py`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime

import ibis
import pyarrow as pa
import pytest

from mlops_platform.contracts import SILVER_TRANSACTIONS, STANDARD
from mlops_platform.errors import InputError
from mlops_platform.feature_pipeline import sql_engines
from mlops_platform.feature_pipeline.compute import compute_features
from mlops_platform.feature_pipeline.sql_engines import pinned_sql, sql_features
from mlops_platform.feature_pipeline.transform import SOURCE_TYPES, feature_expression
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.read import TableSnapshot
from tools.make_docs import GOLDEN, GOLDEN_DAYS

PIN = " FOR VERSION AS OF 42"
ENGINES = ("trino", "athena")


@pytest.mark.parametrize("day", GOLDEN_DAYS, ids=str)
def test_without_its_pins_it_is_the_committed_sql(day: date) -> None:
    silver = ibis.table(SOURCE_TYPES, name="transactions", database="silver")
    committed = (GOLDEN / f"customer_features_{day}.sql").read_text(encoding="utf-8").partition("\n")[2]
    pinned = pinned_sql(feature_expression(silver, day), 42)
    assert pinned.replace(PIN, "") == committed.rstrip("\n")
    assert pinned.count(f'"silver"."transactions"{PIN} AS') == committed.count('"silver"."transactions"') > 0


def settings_of(engine: str, **more: str) -> Settings:
    """Settings of a home whose tables another machine can reach."""
    return load_settings(catalog_url="postgresql://ana@host/lake", warehouse_url="s3://shop/lake").model_copy(
        update={"engine": engine, **more}
    )


def state(settings: Settings, snapshot_id: int | None = None) -> TableSnapshot:
    """A state of silver.transactions that nobody has to read."""
    return TableSnapshot(SILVER_TRANSACTIONS, snapshot_id, settings, None)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("where", [{}, {"catalog_url": "postgresql://ana@host/lake"}, {"warehouse_url": "s3://shop/l"}])
def test_tables_of_this_machine_alone_are_refused(engine: str, where: dict[str, str]) -> None:
    settings = load_settings(**where).model_copy(update={"engine": engine})
    with pytest.raises(InputError, match=rf"MLOPS_ENGINE is {engine}, which can't reach .*unset MLOPS_ENGINE"):
        compute_features(settings, state(settings), [date(2024, 1, 1)], created_at=datetime(2025, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_restriction_by_another_column_is_refused(engine: str) -> None:
    settings = settings_of(engine)
    restricted = replace(state(settings, 42), where=(Condition("transaction_id", "=", "1"),))
    with pytest.raises(InputError, match=rf"engine {engine} can't compute features where \"transaction_id\" = '1'"):
        sql_features(settings, restricted, date(2024, 1, 1))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_table_that_was_never_written_asks_nobody(engine: str) -> None:
    settings = settings_of(engine)
    found = sql_features(settings, state(settings), date(2024, 1, 1))
    assert (found.num_rows, found.column_names) == (0, ["customer_id", "feature_date", *STANDARD.names])


def test_athenas_answer_without_rows_has_no_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def athena_rows(_settings: Settings, sql: str) -> pa.Table:
        asked.append(sql)
        return pa.table({})

    monkeypatch.setattr(sql_engines, "athena_rows", athena_rows)
    settings = settings_of("athena")
    found = sql_features(settings, state(settings, 42), date(2024, 1, 1))
    assert (found.num_rows, found.column_names) == (0, ["customer_id", "feature_date", *STANDARD.names])
    assert [sql.count(PIN) > 0 for sql in asked] == [True]
