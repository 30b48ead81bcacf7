"""The training set: features at past feature_dates with their labels, split so that the test is later in time.

Test rows are the whole population at E. At every training date a fixed fifth of the customers is held back as
validation rows (the threshold comes from them), the others are trained on. Does not belong here: fitting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_platform.contracts import SILVER_TRANSACTIONS, load_feature_set
from mlops_platform.contracts.ml import TARGET
from mlops_platform.errors import NotEnoughDataError
from mlops_platform.feature_pipeline.point_in_time import register_feature_dates
from mlops_platform.feature_pipeline.versions import require_computed
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import quoted, session
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import register, scalar
from mlops_platform.training_pipeline.labels import LabelledDates, label_sql, labelled_dates, population_sql

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    import duckdb
    import pyarrow as pa

    from mlops_platform.contracts import TableContract
    from mlops_platform.settings import Settings
    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.read import TableSnapshot

VALIDATION_PERCENT = 20


def training_set(settings: Settings, features: TableSnapshot, transactions: TableSnapshot, *, as_of: date) -> Draft:
    """The labelled rows of every feature_date a training as of `as_of` uses.

    Args:
        settings: Horizon, population, history.
        features: Snapshot of feature_store.customer_features.
        transactions: Snapshot of silver.transactions, for the labels.
        as_of: Last complete local day.

    Raises:
        NotEnoughDataError: Too little history, feature_dates not computed yet or before a feature was declared, or only
            one class.
    """
    declared = load_feature_set(settings.features_module)
    dates = labelled_dates(as_of, settings.first_partition_day, settings.horizon_days)
    first = _first_purchase(transactions)
    # A day before the first purchase has no rows to miss.
    required = [day for day in dates.all if first is None or day >= first]
    with session(settings) as duck:
        register_feature_dates(duck, features, dates.all, required=required)
        view = register(
            duck, transactions, columns=("customer_id", "transaction_date", "amount"),
            where=[Condition("transaction_date", "<=", as_of), Condition("transaction_date", ">", min(dates.all))],
        )  # fmt: skip
        duck.execute(f"CREATE TEMP TABLE purchases AS SELECT * FROM {view} WHERE amount > 0")
        rows = duck.sql(_dataset_sql(settings, declared.training_set, dates)).to_arrow_table()
    require_computed(rows, declared.names)
    require_both_classes(rows, f"evaluation on {dates.evaluation}")
    return Draft(
        declared.training_set,
        rows,
        properties={
            "as-of": as_of.isoformat(),
            "evaluation-date": dates.evaluation.isoformat(),
            "training-dates": ",".join(day.isoformat() for day in dates.training),
            "feature-snapshot-id": str(features.snapshot_id),
            "label-snapshot-id": str(transactions.snapshot_id),
        },
        figures={
            "evaluation_date": dates.evaluation.isoformat(),
            "training_dates": len(dates.training),
            **{split: rows.filter(_equals(rows, "split", split)).num_rows for split in ("train", "validation", "test")},
        },
    )


def _dataset_sql(settings: Settings, contract: TableContract, dates: LabelledDates) -> str:
    return f"""
        WITH rows AS (SELECT * FROM features WHERE {population_sql(settings.population_days)}),
             labels AS ({label_sql("purchases", "rows", settings.horizon_days)})
        SELECT {_cells(contract)} FROM (
            SELECT *, CASE WHEN feature_date = DATE '{dates.evaluation}' THEN 'test'
                           WHEN {held_back_sql("customer_id")} THEN 'validation' ELSE 'train' END AS split
            FROM rows JOIN labels USING (customer_id, feature_date))
        ORDER BY feature_date, customer_id"""


def held_back_sql(key: str) -> str:
    """Condition on a text, as a rule the customer's id: it belongs to the fixed fifth that no model is fitted on."""
    # md5 and not hash(): the split must be the same for every version of DuckDB.
    return f"('0x' || substr(md5({key}), 1, 8))::BIGINT % 100 < {VALIDATION_PERCENT}"


def _cells(contract: TableContract) -> str:
    return ", ".join(map(quoted, contract.column_names))


def last_silver_day(lake: Lake, complete_until: date) -> date:
    """The day to train as of: silver's last day with a transaction, but none that is not over.

    Args:
        lake: The home's tables.
        complete_until: Last complete local day.

    Raises:
        NotEnoughDataError: Silver holds no transaction.
    """
    with lake.snapshot(SILVER_TRANSACTIONS).relation(["transaction_date"]) as (duck, view):
        last: date | None = scalar(duck, f"SELECT max(transaction_date) FROM {view}")
    if last is None:
        raise NotEnoughDataError(
            f"silver.transactions in {lake.settings.home} is empty",
            expected="ingested transactions to train on",
            hint="run `mlops demo`, or the job ingest_and_features in the Dagster UI.",
        )
    return min(last, complete_until)


def _first_purchase(transactions: TableSnapshot) -> date | None:
    with transactions.relation(("transaction_date", "amount")) as (duck, view):
        first: date | None = scalar(duck, f"SELECT min(transaction_date) FROM {view} WHERE amount > 0")
    return first


def require_both_classes(rows: pa.Table, where: str) -> None:
    """Refuses rows of which a split holds one class only.

    Args:
        rows: With split and churned.
        where: What the rows are, for the message.

    Raises:
        NotEnoughDataError: One does.
    """
    for split in ("train", "validation", "test"):
        part = rows.filter(_equals(rows, "split", split))
        classes = set(part.column(TARGET).unique().to_pylist())
        if classes != {0, 1}:
            raise NotEnoughDataError(
                f"the {part.num_rows} {split} rows hold only the class(es) {sorted(classes)} ({where})",
                expected="customers that churned and customers that stayed",
                hint="use more customers or history, or another MLOPS_HORIZON_DAYS or MLOPS_POPULATION_DAYS.",
            )


def _equals(rows: pa.Table, column: str, value: str) -> pa.ChunkedArray:
    import pyarrow.compute as pc

    return pc.equal(rows.column(column), value)


def split_rows(rows: pa.Table, split: str) -> pa.Table:
    """The rows of one split."""
    return rows.filter(_equals(rows, "split", split))


def data_digest(settings: Settings, snapshot: TableSnapshot) -> str:
    """Digest of the training rows themselves, whatever snapshot or order they stand in."""
    with session(settings) as duck:
        return rows_digest(duck, register(duck, snapshot), snapshot.contract.column_names)


def rows_digest(duck: duckdb.DuckDBPyConnection, view: str, columns: Sequence[str]) -> str:
    """Digest of a view's rows in any order, by the values of some columns."""
    row = row_text_sql(columns)
    return str(scalar(duck, f"SELECT md5(string_agg(h, '' ORDER BY h)) FROM (SELECT md5({row}) h FROM {view})"))


def row_text_sql(columns: Sequence[str]) -> str:
    """A row as one text: equal for equal values, another for any other."""
    return f"to_json(({', '.join(map(quoted, columns))}))::VARCHAR"
