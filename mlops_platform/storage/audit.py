"""The audit of data before it is published: Pandera on Ibis, run inside DuckDB.

Belongs here: running a contract's checks over Arrow rows and saying what is wrong in words. Does not belong here: the
rules (contracts) or what follows from a failure (`publish.py` refuses, assets report).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.schemas import CHECK_NAMES, KEY, NOT_NULL, SCHEMA, VALUES, ibis_schema, violation
from mlops_platform.errors import ContractError
from mlops_platform.storage.conditions import Condition, all_of_sql
from mlops_platform.storage.duck import quoted
from mlops_platform.storage.read import scalar
from mlops_platform.storage.rows import Rows, StagedRows, register_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from mlops_platform.contracts import TableContract

RANGE_CHECK = "rows_in_range"


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """One check's outcome.

    Args:
        name: The check.
        passed: Whether it held.
        message: What was found, for a person.
        is_blocking: Whether a failure stops the publish.
        figures: Numbers behind the message.
    """

    name: str
    passed: bool
    message: str = ""
    is_blocking: bool = True
    figures: dict[str, int | float | str] = field(default_factory=dict)


def audit(contract: TableContract, rows: Rows, scope: Sequence[Condition] = ()) -> list[CheckOutcome]:
    """Runs the contract's four checks over the rows, and with a scope that they lie in it.

    Returns:
        One outcome for each of `CHECK_NAMES`, in that order, then `RANGE_CHECK`'s.
    """
    import ibis
    from pandera.errors import SchemaErrors

    connection = ibis.duckdb.connect()
    try:
        connection.con.execute("SET TimeZone = 'UTC'")
        if isinstance(rows, StagedRows):
            # Rows that did not fit into memory are audited within the home's bounds.
            connection.con.execute(f"SET memory_limit = '{rows.settings.memory_limit_mb}MB'")
            connection.con.execute("SET temp_directory = $folder", {"folder": str(rows.settings.home / "tmp")})
        register_rows(connection.con, "audited", rows)
        table = connection.table("audited")
        failed: set[str] = set()
        try:
            is_unique = _is_surely_unique(contract, connection.con, table.columns)
            ibis_schema(contract, is_unique=is_unique).validate(table, lazy=True)
        except SchemaErrors as errors:
            failed = {_check_name(error) for error in errors.schema_errors}
        outcomes = [_outcome(contract, table, name, failed) for name in CHECK_NAMES]
        return [*outcomes, _range_outcome(connection.con, scope)] if scope else outcomes
    finally:
        connection.disconnect()


def require(contract: TableContract, outcomes: list[CheckOutcome]) -> None:
    """Raises if a blocking check failed.

    Raises:
        ContractError: Naming the table, every failed check and what was found.
    """
    failed = [outcome for outcome in outcomes if outcome.is_blocking and not outcome.passed]
    if failed:
        found = "; ".join(f"{outcome.name}: {outcome.message}" for outcome in failed)
        raise ContractError(
            f"{contract.name} was not published, {len(failed)} check(s) failed: {found}",
            hint=f'`mlops query "SELECT * FROM {contract.name}"` shows the table, which is as it was.',
        )


def _is_surely_unique(contract: TableContract, connection: duckdb.DuckDBPyConnection, columns: Sequence[str]) -> bool:
    """Whether the keys' hashes are all different, so that the keys are: half the cost of comparing keys themselves."""
    if not contract.key or not set(contract.key) <= set(columns):
        return False
    key = ", ".join(map(quoted, contract.key))
    return bool(scalar(connection, f"SELECT count(*) = count(DISTINCT hash({key})) FROM audited"))


def _range_outcome(connection: duckdb.DuckDBPyConnection, scope: Sequence[Condition]) -> CheckOutcome:
    outside = scalar(connection, f"SELECT count(*) FROM audited WHERE ({all_of_sql(scope)}) IS NOT TRUE")
    message = f"{outside} rows lie outside {all_of_sql(scope)}" if outside else ""
    return CheckOutcome(RANGE_CHECK, passed=not outside, message=message)


def _check_name(error: Any) -> str:
    from pandera.errors import SchemaErrorReason

    if error.reason_code is SchemaErrorReason.DUPLICATES:
        return KEY
    name = getattr(error.check, "name", None)
    return name if name in {NOT_NULL, VALUES} else SCHEMA


def _outcome(contract: TableContract, table: Any, name: str, failed: set[str]) -> CheckOutcome:
    if name not in failed:
        # A table of the wrong shape is not looked into any further.
        unknown = SCHEMA in failed
        return CheckOutcome(name, passed=not unknown, message="not checked: the schema differs" if unknown else "")
    explain = {SCHEMA: _explain_schema, KEY: _explain_key, NOT_NULL: _explain_nulls, VALUES: _explain_values}[name]
    figures = explain(contract, table)
    message = ", ".join(f"{key}: {value}" for key, value in figures.items())
    return CheckOutcome(name, passed=False, message=message, figures=figures)


def _explain_schema(contract: TableContract, table: Any) -> dict[str, int | float | str]:
    found = {name: str(kind) for name, kind in table.schema().items()}
    figures: dict[str, int | float | str] = {}
    for column in contract.columns:
        if column.name not in found:
            figures[column.name] = "missing"
    figures |= {name: "not in the contract" for name in found if name not in contract.column_names}
    return figures or {name: f"is {kind}" for name, kind in found.items()}


def _explain_key(contract: TableContract, table: Any) -> dict[str, int | float | str]:
    repeated = table.group_by(list(contract.key)).agg(n=table.count()).filter(lambda t: t.n > 1)
    return {f"repeated {' + '.join(contract.key)}": int(repeated.count().to_pyarrow().as_py())}


def _explain_nulls(contract: TableContract, table: Any) -> dict[str, int | float | str]:
    counts = {c.name: table[c.name].isnull().sum() for c in contract.columns if not c.nullable}
    return _nonzero(table, counts, "null")


def _explain_values(contract: TableContract, table: Any) -> dict[str, int | float | str]:
    broken = {c.name: violation(table, c) for c in contract.columns}
    return _nonzero(table, {n: v.sum() for n, v in broken.items() if v is not None}, "out of contract")


def _nonzero(table: Any, counts: dict[str, Any], what: str) -> dict[str, int | float | str]:
    row = table.aggregate(**counts).to_pyarrow().to_pylist()[0]
    return {f"{name} {what}": int(value) for name, value in row.items() if value}
