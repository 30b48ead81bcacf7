"""The history of a model in ml.promotions: every decision, and which versions were in Production, in order.

Belongs here: reading rows and making those of people's decisions. Does not belong here: the gate's own row
(`promotion.py`), changing a stage (`stages.py`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import PROMOTIONS
from mlops_platform.contracts.ml import MANUAL, PROMOTED, REFUSED, ROLLED_BACK, WITHDRAWN
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.contracts.table import ColumnType
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.publish import Draft
from mlops_platform.training_pipeline.registry import NO_STAGE, RegisteredModel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_platform.storage.lake import Lake

ENTERING = {PROMOTED, MANUAL, ROLLED_BACK}
_PARSED = {ColumnType.TIMESTAMP: datetime.fromisoformat, ColumnType.DATE: date.fromisoformat}

Row = dict[str, Any]
"""A row of ml.promotions: column name to value."""


@dataclass(frozen=True)
class PromotionHistory:
    """The decisions about one model.

    Args:
        name: The model's name.
        rows: Its rows of ml.promotions, in any order.
    """

    name: str
    rows: Sequence[Row]

    @classmethod
    def read(cls, lake: Lake, name: str) -> PromotionHistory:
        """What ml.promotions holds now."""
        found = lake.snapshot(PROMOTIONS).to_arrow(where=[Condition("model_name", "=", name)])
        return cls(name, found.to_pylist())

    def with_row(self, row: Row) -> PromotionHistory:
        """The history once this row stands in it."""
        return PromotionHistory(self.name, [*self.rows, row])

    @cached_property
    def decisions(self) -> list[Row]:
        """Every row, oldest first.

        Instants alone don't order them: a process may wait for another between deciding and changing, and `MLOPS_AS_OF`
        stops the clock. Rows from before changes were counted come first.
        """
        return sorted(self.rows, key=_place)

    @cached_property
    def changes(self) -> list[Row]:
        """The rows that changed the Production version, oldest first."""
        return [row for row in self.decisions if row["decision"] != REFUSED]

    @property
    def production(self) -> str | None:
        """The version that the last change left in Production; None: none."""
        return version_after(self.changes[-1]) if self.changes else None

    def production_model(self) -> RegisteredModel:
        """The version that the last change left in Production, as its row names it: it may be registered no longer."""
        last = self.changes[-1]
        return RegisteredModel(self.name, last["model_version"], NO_STAGE, last["run_id"], {})

    @property
    def last_id(self) -> str | None:
        """The decision that made the present champion; None where there was none."""
        return self.changes[-1]["decision_id"] if self.changes else None

    @property
    def number(self) -> int:
        """Number of the last change."""
        return max((row["change_number"] or 0 for row in self.changes), default=0)

    def holds(self, row: Row) -> bool:
        """Whether the decision stands here already."""
        return any(row["decision_id"] == held["decision_id"] for held in self.rows)

    @cached_property
    def before(self) -> list[str]:
        """Versions a rollback may go back to, the nearest first.

        A rollback takes back what came since, so that the next one goes back further, not forward again.
        """
        stack: list[str | None] = []
        for row in self.changes:
            version = version_after(row)
            if row["decision"] == ROLLED_BACK and version in stack:
                while stack[-1] != version:
                    stack.pop()
            else:
                stack.append(version)
        nearest = [version for version in reversed(stack) if version not in {None, self.production}]
        return [version for version in dict.fromkeys(nearest) if version is not None]

    def was_taken_back(self, version: str) -> bool:
        """Whether somebody took the version out of Production, not for another one, and nobody has put it back."""
        is_taken_back, production = False, None
        for row in self.changes:
            after = version_after(row)
            if after == version:
                is_taken_back = False
            elif production == version:
                is_taken_back = row["decision"] in {ROLLED_BACK, WITHDRAWN}
            production = after
        return is_taken_back

    def change(self, model: RegisteredModel, decision: str, reason: str, *, at: datetime) -> Row:
        """The row of the next change that no evaluation stands behind.

        Args:
            model: The version that enters Production, or for `withdrawn` leaves it.
            decision: A word of the contract.
            reason: Why.
            at: When.
        """
        number = self.number + 1
        what = f"{self.name}/{number}/{model.version}/{decision}"
        unknown = dict.fromkeys(PROMOTIONS.column_names)
        return unknown | {
            "decision_id": hashlib.sha256(what.encode()).hexdigest()[:32],
            "decided_at": at,
            "model_name": self.name,
            "model_version": model.version,
            "decision": decision,
            "reason": reason,
            "champion_version": self.production,
            "run_id": model.run_id,
            "change_number": number,
        }


def version_after(change: Row) -> str | None:
    """The Production version that a change leaves; None: none."""
    return change["model_version"] if change["decision"] in ENTERING else None


def draft(*rows: Row) -> Draft:
    """Rows for ml.promotions."""
    import pyarrow as pa

    figures = {"decision": rows[0]["decision"], "reason": rows[0]["reason"]} if rows else {}
    return Draft(PROMOTIONS, pa.Table.from_pylist(list(rows), schema=arrow_schema(PROMOTIONS)), figures=figures)


def encoded(row: Row) -> str:
    """A row as JSON."""
    return json.dumps(row, default=str)


def decoded(text: str) -> Row:
    """The row of a JSON text."""
    found: Row = json.loads(text)
    for column in PROMOTIONS.columns:
        if column.type in _PARSED and found.get(column.name) is not None:
            found[column.name] = _PARSED[column.type](found[column.name])
    return found


def _place(row: Row) -> tuple[int, bool, datetime]:
    number = row["change_number"]
    return number or 0, number is not None and row["decision"] == REFUSED, row["decided_at"]
