"""A user's extraction query: one SELECT from one of a source's tables, parsed, checked and rebuilt.

What reaches the CRM is written anew from the parsed query, never the user's text, and everything in it is on a list of
what may be there. Does not belong here: running it (`extraction.py`), SQL over our own tables (`storage/query.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlops_platform.data_pipeline.connections import Statement, dialect_of, placeholder
from mlops_platform.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from sqlglot import exp

    from mlops_platform.data_pipeline.connections import Parameter
    from mlops_platform.data_pipeline.crm import SourceTable

# SQLAlchemy's name of a database to sqlglot's name of its SQL, where they differ.
_DIALECTS = {"postgresql": "postgres", "mariadb": "mysql", "mssql": "tsql", "awsathena": "athena"}
# Databases that fold an unquoted name to upper case: quoting our lower-case name would miss it.
_FOLDS_UP = {"oracle", "snowflake"}
_EXPECTED = "one SELECT from one table of the source, such as SELECT * FROM customers WHERE country = 'BR'"

# Parts of a query that read other tables, write, lock, or bind what is not ours to bind.
_REFUSED = (
    *(
        "CTE",
        "Command",
        "DDL",
        "DML",
        "Hint",
        "Into",
        "Join",
        "Lateral",
        "Lock",
        "MatchRecognize",
        "Parameter",
        "Pivot",
    ),
    *("Placeholder", "SessionParameter", "Subquery", "TableSample", "Unnest", "UserDefinedFunction"),
)
# Functions by sqlglot's class: they compute from their arguments alone.
_FUNCTION_NAMES = """
    Abs Avg Cast Ceil Case Coalesce Concat ConcatWs Count CountIf And Or Xor Not Date DateAdd DateDiff DateSub DateTrunc
    DatetimeAdd DatetimeSub DatetimeTrunc Day DayOfMonth DayOfWeek DayOfYear Exp Extract Floor Greatest If Initcap Hour
    JSONExtract JSONExtractScalar JSONBExtract JSONBExtractScalar LastDay Least Left Length Like ILike Ln Log Lower Max
    Min Minute Mod Month Nullif Pow Quarter RegexpLike RegexpILike RegexpReplace Replace Right Round RowNumber Second
    Sign SplitPart Sqrt StartsWith StrPosition StrToDate StrToTime Substring Sum TimeToStr Timestamp TimestampAdd
    TimestampSub TimestampTrunc ToChar Trim TryCast TsOrDsAdd TsOrDsDiff TsOrDsToDate TsOrDsToTimestamp Upper Week
    Year"""
_FUNCTIONS = frozenset(_FUNCTION_NAMES.split())
# Functions sqlglot has no class for, in some dialect.
_OTHER_FUNCTIONS = frozenset(
    {"DATE", "DATETIME", "IFNULL", "INSTR", "JULIANDAY", "NVL", "STRFTIME", "TIME", "UNIXEPOCH"}
)
_INSTANTS = ("CurrentTimestamp", "CurrentDatetime", "CurrentTimestampLTZ", "Localtimestamp")


@dataclass(frozen=True, slots=True)
class ExtractionQuery:
    """A checked query.

    Args:
        table: The source's table it reads.
        text: What the user wrote.
        statement: What the CRM is asked.
    """

    table: SourceTable
    text: str
    statement: Statement


def parse_query(text: str, tables: Sequence[SourceTable], url: str, *, day: date, moment: datetime) -> ExtractionQuery:
    """Checks a query and writes it anew.

    Args:
        text: One SELECT in the database's SQL, from a table by our name or the CRM's.
        tables: The source's tables.
        url: The database's URL, which tells the dialect.
        day: What CURRENT_DATE stands for.
        moment: What CURRENT_TIMESTAMP and NOW() stand for, in the business time zone.

    Raises:
        InputError: Not one SELECT from one of the tables, or something in it is not allowed.
    """
    dialect = _known(dialect_of(url))
    tree = _only_select(text, dialect)
    _require_harmless(tree, dialect)
    table = _resolve(tree, tables, dialect)
    clock = _Clock(url, day, moment)
    clock.replace(tree, is_sqlite=dialect == "sqlite")
    return ExtractionQuery(table, text, Statement(_written(tree, dialect), tuple(clock.values)))


def _only_select(text: str, dialect: str) -> exp.Select:
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        statements = [each for each in sqlglot.parse(text, dialect=dialect) if each is not None]
    except SqlglotError as error:
        raise InputError(
            f"the extraction_query can't be read: {str(error).splitlines()[0]}", expected=_EXPECTED
        ) from error
    if len(statements) != 1 or not isinstance(statements[0], exp.Select):
        found = statements[0].key.upper() if statements else "nothing"
        raise InputError(
            f"the extraction_query is {len(statements)} statement(s), the first {found}", expected=_EXPECTED
        )
    return statements[0]


def _known(name: str) -> str:
    """The dialect of a database, or sqlglot's own for one it does not know."""
    from sqlglot.dialects.dialect import Dialect

    dialect = _DIALECTS.get(name, name)
    return dialect if Dialect.get(dialect) is not None else ""


def _written(tree: exp.Select, dialect: str) -> str:
    from sqlglot.errors import ErrorLevel, UnsupportedError

    try:
        return tree.sql(dialect=dialect, comments=False, unsupported_level=ErrorLevel.RAISE)
    except UnsupportedError as error:
        raise InputError(
            f"the extraction_query can't be written for {dialect}: {error}", expected="that database's own SQL"
        ) from error


def _shown(node: Any, dialect: str) -> str:
    from sqlglot.errors import ErrorLevel

    return str(node.sql(dialect=dialect, unsupported_level=ErrorLevel.IGNORE) or node.key.upper())


def _resolve(tree: exp.Select, tables: Sequence[SourceTable], dialect: str) -> SourceTable:
    """The one table of the query, which is pointed at the CRM's own name, as are columns given by ours."""
    from sqlglot import exp

    found = list(tree.find_all(exp.Table))
    shown = ", ".join(dict.fromkeys(name for table in tables for name in (table.name, table.own_name)))
    if len(found) != 1 or not isinstance(found[0].this, exp.Identifier):
        names = ", ".join(_shown(each, dialect) for each in found) or "no table"
        raise InputError(f"the extraction_query reads {names}", expected=f"exactly one of the tables {shown}")
    node = found[0]
    written = ".".join(part.name for part in node.parts).lower()
    table = next((each for each in tables if written in {each.name.lower(), each.own_name.lower()}), None)
    if table is None:
        raise InputError(
            f"the extraction_query reads {_shown(node, dialect)}, which is no table of the source",
            expected=f"one of {shown}",
        )
    is_quoted = dialect not in _FOLDS_UP
    parts = [exp.to_identifier(part, quoted=is_quoted) for part in table.own_name.split(".")]
    alias = exp.TableAlias(this=exp.to_identifier(node.alias or node.name))
    node.replace(exp.Table(this=parts[-1], db=parts[-2] if parts[1:] else None, alias=alias))
    theirs = set(table.renamed.values())
    for column in tree.find_all(exp.Column):
        if column.name in table.renamed and column.name not in theirs:
            column.set("this", exp.to_identifier(table.renamed[column.name], quoted=is_quoted))
    return table


def _require_harmless(tree: exp.Select, dialect: str) -> None:
    from sqlglot import exp

    refused = tuple(getattr(exp, name) for name in _REFUSED)
    if len(list(tree.find_all(exp.Select))) > 1:
        raise InputError("the extraction_query holds a query within the query", expected=_EXPECTED)
    for node in tree.walk():
        is_call = isinstance(node, exp.Func) and not _is_allowed(node)
        # Written without quotes it could be read as something else, such as a parameter.
        is_odd = isinstance(node, exp.Identifier | exp.Var) and not node.args.get("quoted") and not _is_plain(node.name)
        if is_call or is_odd or isinstance(node, refused):
            raise InputError(
                f"the extraction_query holds {_shown(node, dialect)}, which is not allowed ({node.key})",
                expected="columns, comparisons and plain functions such as lower, coalesce, date_trunc and cast",
                hint="ingest the rows as they are; silver and your own steps can change them.",
            )


def _is_plain(name: str) -> bool:
    return re.fullmatch(r"[^\W\d]\w*", name) is not None


def _is_allowed(node: Any) -> bool:
    from sqlglot import exp

    if isinstance(node, exp.Anonymous):
        return node.name.upper() in _OTHER_FUNCTIONS or _is_now(node)
    kind = type(node).__name__
    return kind in _FUNCTIONS or kind == "CurrentDate" or kind in _INSTANTS


def _is_now(node: Any) -> bool:
    from sqlglot import exp

    return isinstance(node, exp.Anonymous) and node.name.upper() == "NOW" and not node.expressions


@dataclass(slots=True)
class _Clock:
    """Puts parameters in place of the database's own clock."""

    url: str
    day: date
    moment: datetime
    values: list[Parameter] = field(default_factory=list)

    def replace(self, tree: exp.Select, *, is_sqlite: bool) -> None:
        from sqlglot import exp

        instants = tuple(getattr(exp, name) for name in _INSTANTS)
        for node in list(tree.find_all(exp.Func)):
            if isinstance(node, exp.CurrentDate):
                node.replace(self._bound(self.day))
            elif isinstance(node, instants) or _is_now(node):
                node.replace(self._bound(self.moment))
            elif is_sqlite:
                # SQLite's date functions know the clock as an argument: date('now', '-1 day').
                for word in list(node.find_all(exp.Literal)):
                    if word.is_string and word.name.lower() == "now":
                        word.replace(self._bound(self.moment))

    def _bound(self, value: Parameter) -> exp.Var:
        from sqlglot import exp

        self.values.append(value)
        return exp.Var(this=placeholder(self.url, len(self.values), value))
