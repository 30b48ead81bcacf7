"""What a table is: columns with type, meaning and unit, key, partitioning, and how it is replaced.

Belongs here: the vocabulary (`Column`, `TableContract`). Does not belong here: the tables themselves (`lake.py`,
`features.py`, `ml.py`), or what is generated from a contract (`schemas.py`, Iceberg in `storage/`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class ColumnType(Enum):
    """Column types; the value is DuckDB's name of the type."""

    STRING = "VARCHAR"
    INT = "INTEGER"
    LONG = "BIGINT"
    DOUBLE = "DOUBLE"
    BOOLEAN = "BOOLEAN"
    MONEY = "DECIMAL(18,2)"
    DATE = "DATE"
    TIMESTAMP = "TIMESTAMP WITH TIME ZONE"


class Replace(Enum):
    """What one publish replaces."""

    NOTHING = "append"
    """Rows are only ever added."""
    TABLE = "table"
    """The table's whole content."""
    RANGE = "range"
    """The rows whose `range_column` lies in the published range."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Args:
        name: Name, with its unit or window where it has one.
        type: Type.
        meaning: One sentence for a reader of the docs.
        unit: Unit of measure, where the name does not say it.
        nullable: Whether null is a value.
        ge: Smallest allowed value.
        le: Largest allowed value.
        isin: The allowed values.
    """

    name: str
    type: ColumnType
    meaning: str
    unit: str | None = None
    nullable: bool = False
    ge: float | None = None
    le: float | None = None
    isin: tuple[str | int, ...] | None = None

    @property
    def description(self) -> str:
        """Meaning with its unit."""
        return f"{self.meaning} [{self.unit}]" if self.unit else self.meaning


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition field: a column and Iceberg's transform of it (`day`, `month` or `identity`)."""

    column: str
    transform: str


@dataclass(frozen=True, slots=True)
class TableContract:
    """What a table promises.

    Args:
        name: `namespace.table`.
        description: One or two sentences for a reader.
        columns: Columns in order.
        key: Columns that together identify a row; empty where rows have no identity.
        partitions: Iceberg partition fields.
        replace: What one publish replaces.
        range_column: The column of `Replace.RANGE`.
        append_once: For `Replace.NOTHING`: rows whose values of these columns the table holds already are not added.
        volatile: Columns that record the writing itself; two publishes that differ only in them are equal.
        version_property: Snapshot property that names the version of what the rows mean.
        version_tag: A publish with another version than the state before gives that state the Iceberg tag
            `<version_tag>-<its version>`, by which it stays readable.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    partitions: tuple[Partition, ...] = ()
    replace: Replace = Replace.TABLE
    range_column: str | None = None
    append_once: tuple[str, ...] = ()
    volatile: frozenset[str] = field(default_factory=frozenset)
    version_property: str | None = None
    version_tag: str = "version"

    def __post_init__(self) -> None:
        names = self.column_names
        repeated = {name for name in names if names.count(name) > 1}
        mentioned = {*self.key, *self.append_once, *(p.column for p in self.partitions), *self.volatile}
        if self.range_column is not None:
            mentioned.add(self.range_column)
        unknown = mentioned - set(names)
        if repeated or unknown:
            raise ValueError(f"{self.name}: repeated columns {sorted(repeated)}, unknown columns {sorted(unknown)}")
        if (self.replace is Replace.RANGE) != (self.range_column is not None):
            raise ValueError(f"{self.name}: range_column and Replace.RANGE go together")

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    @property
    def content_columns(self) -> tuple[str, ...]:
        """Columns that make up a row's content: all but the volatile ones."""
        return tuple(name for name in self.column_names if name not in self.volatile)

    def column(self, name: str) -> Column:
        """The column of that name."""
        return next(column for column in self.columns if column.name == name)
