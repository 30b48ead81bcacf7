"""The audit of data before it is published: Pandera on Ibis, run inside DuckDB.

Belongs here: running a contract's checks over Arrow rows and saying what is wrong in words. Does not belong here: the
rules (contracts) or what follows from a failure (`publish.py` refuses, assets report).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.schemas import CHECK_NAMES, KEY, NOT_NULL, SCHEMA, VALUES, ibis_schema, violation
from mlops_platform.errors import ContractError

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_platform.contracts import TableContract


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


def audit(contract: TableContract, rows: pa.Table) -> list[CheckOutcome]:
    """Runs the contract's four checks over the rows.

    Returns:
        One outcome for each of `CHECK_NAMES`, in that order.
    """
    import ibis
    from pandera.errors import SchemaErrors

    connection = ibis.duckdb.connect()
    try:
        connection.con.execute("SET TimeZone = 'UTC'")
        connection.con.register("audited", rows)
        table = connection.table("audited")
        failed: set[str] = set()
        try:
            ibis_schema(contract).validate(table, lazy=True)
        except SchemaErrors as errors:
            failed = {_check_name(error) for error in errors.schema_errors}
        return [_outcome(contract, table, name, failed) for name in CHECK_NAMES]
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
