"""Filling a CRM database: import of Parquet or CSV files, and the synthetic one.

Every row is kept as it is: the CRM's tables carry no unique key, cleaning is silver's. A load is one transaction and is
recorded in the database, so that the same load again adds nothing. Does not belong here: reading a CRM (`crm.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_platform.data_pipeline.connections import connect, is_postgres, is_sqlite
from mlops_platform.data_pipeline.crm import CUSTOMERS, SOURCE_TABLES, TRANSACTIONS, SourceTable
from mlops_platform.errors import InputError, SourceError
from mlops_platform.settings import mask_secrets

if TYPE_CHECKING:
    from datetime import date

    import duckdb
    import pyarrow as pa

    from mlops_platform.data_pipeline.synthetic_model import SyntheticModel

LOADS_TABLE = "mlops_loads"
SUFFIXES = (".parquet", ".csv")


@dataclass(frozen=True, slots=True)
class Load:
    """What a load did.

    Args:
        customers: Rows of the customers table loaded.
        transactions: Rows of the transactions table loaded.
        is_new: False when this very load was already in the database and nothing was written.
    """

    customers: int
    transactions: int
    is_new: bool


def import_files(folder: Path, url: str) -> Load:
    """Loads `customers.*` and `transactions.*` (Parquet or CSV) of a folder into a CRM database.

    A missing `updated_at` becomes the transaction's time (for a customer: the first transaction's), a missing
    `signup_date` the day of the customer's first transaction.

    Raises:
        InputError: The folder or a file is missing or unreadable, or a required column is.
        SourceError: The database can't be written.
    """
    import duckdb

    files = {table.name: _file(folder, table.name) for table in SOURCE_TABLES}
    digest = hashlib.sha256()
    for path in files.values():
        digest.update(path.read_bytes())
    with duckdb.connect() as duck:
        duck.execute("SET TimeZone = 'UTC'")
        for name, path in files.items():
            _read_file(duck, name, path)
        transactions = _with_columns(duck, TRANSACTIONS, files, {"updated_at": "transaction_ts"})
        _first_transactions(duck)
        customers = _with_columns(
            duck,
            CUSTOMERS,
            files,
            {"updated_at": "first_ts", "signup_date": "first_ts"},
            source="customers LEFT JOIN firsts USING (customer_id)",
        )
    return _load(url, digest.hexdigest(), {"customers": customers, "transactions": transactions})


def seed(url: str, *, customers: int, days: int, seed: int, until: date, model: SyntheticModel | None = None) -> Load:
    """Fills a CRM database with synthetic customers, and records the model they came from beside them.

    Args:
        url: The CRM's URL.
        customers: Number of customers.
        days: Number of local days of history, ending with `until`.
        seed: Seed of the generator.
        until: Last local day.
        model: Parameters; None: the defaults.

    Raises:
        InputError: A number is not positive.
        SourceError: The database can't be written or holds other data.
    """
    from mlops_platform.data_pipeline.synthetic import generate
    from mlops_platform.data_pipeline.synthetic_model import SyntheticModel

    if customers < 1 or days < 1:
        raise InputError(
            f"{customers} customers over {days} days can't be made",
            expected="at least 1 of each",
            hint="mlops crm seed --help",
        )
    model = model or SyntheticModel()
    digest = hashlib.sha256(f"{customers}/{days}/{seed}/{until}/{model.to_json()}".encode()).hexdigest()
    with connect(url, must_exist=False) as connection:
        known = _loads(connection)
        is_used = bool(known) or _has_tables(connection)
    if is_used and digest not in known:
        raise SourceError(
            f"the CRM {mask_secrets(url)} already holds other data",
            expected="an empty database, or the one the same seed made",
            hint="choose another --into URL, or remove the database first.",
        )
    if digest in known:
        return Load(*known[digest][:2], is_new=False)
    made = generate(customers=customers, days=days, seed=seed, until=until, model=model)
    return _load(url, digest, {"customers": made.customers, "transactions": made.transactions}, model.to_json())


def synthetic_model(url: str) -> SyntheticModel | None:
    """The parameters a synthetic CRM was made from; None for any other CRM."""
    from mlops_platform.data_pipeline.synthetic_model import SyntheticModel

    if not (is_sqlite(url) or is_postgres(url)):
        return None
    with connect(url) as connection:
        models = [model for _, _, model in _loads(connection).values()]
    return SyntheticModel.from_json(models[0]) if len(models) == 1 and models[0] else None


def _file(folder: Path, name: str) -> Path:
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder", expected="a folder with customers.* and transactions.*")
    for suffix in SUFFIXES:
        if (path := folder / f"{name}{suffix}").is_file():
            return path
    raise InputError(f"{folder} holds no {name} file", expected=" or ".join(f"{name}{suffix}" for suffix in SUFFIXES))


def _read_file(duck: duckdb.DuckDBPyConnection, name: str, path: Path) -> None:
    import duckdb

    function = "read_parquet" if path.suffix == ".parquet" else "read_csv"
    options = "" if path.suffix == ".parquet" else ", all_varchar = true, header = true"
    try:
        duck.execute(
            f"CREATE TABLE {name} AS SELECT COLUMNS(*)::VARCHAR FROM {function}($path{options})", {"path": str(path)}
        )
    except (duckdb.Error, OSError) as error:
        raise InputError(
            f"{path} can't be read: {str(error).splitlines()[0]}",
            expected="a Parquet file, or a CSV file with a header line",
            hint="write the file again from its source.",
        ) from error


def _first_transactions(duck: duckdb.DuckDBPyConnection) -> None:
    duck.execute(
        "CREATE TABLE firsts AS SELECT customer_id, "
        "arg_min(transaction_ts, try_cast(transaction_ts AS TIMESTAMPTZ)) AS first_ts "
        "FROM transactions GROUP BY customer_id"
    )


def _with_columns(
    duck: duckdb.DuckDBPyConnection,
    table: SourceTable,
    files: dict[str, Path],
    fallbacks: dict[str, str],
    source: str | None = None,
) -> pa.Table:
    """All rows of a file in the CRM's columns; `fallbacks` stand in for null or missing cells."""
    present = set(duck.table(table.name).columns)
    missing = [name for name in table.required if name not in present and name not in fallbacks]
    if missing:
        raise InputError(
            f"{files[table.name]} lacks the column(s) {', '.join(missing)}",
            expected=f"the columns {', '.join(table.columns)}; found {', '.join(sorted(present))}",
            hint="rename the columns in the file.",
        )
    cells = []
    # A table without `deleted_at` tells ingestion to look for deletions itself.
    for name in (each for each in table.columns if each != "deleted_at" or each in present):
        own = f"{table.name}.{name}" if name in present else "NULL::VARCHAR"
        other = fallbacks.get(name)
        # A time keeps its text, offset included; a day is the one written in it.
        text = f"CAST(try_cast({other} AS DATE) AS VARCHAR)" if name == "signup_date" else other
        value = f"coalesce({own}, {text})" if other else own
        cells.append(f"{value} AS {name}")
    return duck.sql(f"SELECT {', '.join(cells)} FROM {source or table.name}").to_arrow_table()


def _loads(connection: Any) -> dict[str, tuple[int, int, str | None]]:
    """Loads recorded in the database: digest to customers, transactions, synthetic model."""
    from adbc_driver_manager import Error

    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT digest, customers, transactions, model FROM {LOADS_TABLE}")
            return {row[0]: (int(row[1]), int(row[2]), row[3] or None) for row in cursor.fetchall()}
    except Error:
        # No such table: nothing was ever loaded by us. The transaction it broke must be ended on PostgreSQL.
        connection.rollback()
        return {}


def _has_tables(connection: Any) -> bool:
    names = {table.name for table in SOURCE_TABLES}
    found = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
    return any(
        table["table_name"] in names
        for catalog in found
        for schema in catalog["catalog_db_schemas"] or []
        for table in schema["db_schema_tables"] or []
    )


def _load(url: str, digest: str, tables: dict[str, pa.Table], model: str = "") -> Load:
    import pyarrow as pa
    from adbc_driver_manager import Error

    counts = (tables["customers"].num_rows, tables["transactions"].num_rows)
    record = pa.table({"digest": [digest], "customers": [counts[0]], "transactions": [counts[1]], "model": [model]})
    try:
        with connect(url, must_exist=False) as connection:
            if digest in _loads(connection):
                return Load(*counts, is_new=False)
            for name, rows in {**tables, LOADS_TABLE: record}.items():
                with connection.cursor() as cursor:
                    cursor.adbc_ingest(name, _storable(rows, url), mode="create_append")
            connection.commit()
    except Error as error:
        raise SourceError(
            f"the CRM {mask_secrets(url)} can't be written: {str(error).strip()}",
            expected="a database this user may create tables in",
            hint="check the address and the user's rights.",
        ) from error
    return Load(*counts, is_new=True)


def _storable(rows: pa.Table, url: str) -> pa.Table:
    """Rows in types the database's driver takes: SQLite has no times, so they go in as ISO text."""
    import pyarrow as pa

    if not is_sqlite(url):
        return rows
    fields = [pa.field(f.name, pa.string() if pa.types.is_temporal(f.type) else f.type) for f in rows.schema]
    return rows.cast(pa.schema(fields))
