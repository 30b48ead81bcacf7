"""What `mlops models …` prints. Does not belong here: computing anything; the other commands (`console.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from mlops_platform.console import err, out

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from zoneinfo import ZoneInfo

    from rich.console import Console

    from mlops_platform.training_pipeline.history import PromotionHistory, Row
    from mlops_platform.training_pipeline.versions import Comparison, Version


def print_versions(name: str, versions: Sequence[Version], zone: ZoneInfo) -> None:
    """Every version, the newest last."""
    table = _table(f"{name}: {len(versions)} versions")
    table.add_column("version", justify="right", no_wrap=True)
    for heading in ("stage", "model_type"):
        table.add_column(heading, no_wrap=True)
    table.add_column("ROC-AUC test", justify="right")
    table.add_column("created", no_wrap=True)
    table.add_column("run", overflow="fold")
    for version in versions:
        model = version.model
        cells = (
            model.version,
            model.stage,
            version.model_type or "–",
            _number(version.metrics.get("test_roc_auc")),
            _moment(model.created_at, zone),
            model.run_id or "–",
        )
        table.add_row(*map(escape, cells))
    out.print(table)


def print_comparison(found: Comparison) -> None:
    """Both versions' metrics, and what B has more than A."""
    one, other = found.one, found.other
    table = _table(f"{one.model.name}: versions {one.model.version} and {other.model.version}")
    table.add_column("metric", no_wrap=True)
    for version in (one, other):
        heading = f"{version.model.version} ({version.model.stage})\n{version.model_type or '–'}"
        table.add_column(escape(heading), justify="right", no_wrap=True)
    table.add_column("difference", justify="right", no_wrap=True)
    for name, ours, theirs in found.metrics:
        difference = "–" if ours is None or theirs is None else _number(theirs - ours, sign="+")
        table.add_row(escape(name), _number(ours), _number(theirs), difference)
    out.print(table)
    if not found.is_on_equal_rows:
        _say("Note: they were not trained and tested on the same rows, a difference may come from them.", to=err)


def print_promotion(version: str, row: Row | None) -> None:
    """What a promotion did."""
    if row is None:
        _say(f"Version {version} is in Production already; nothing was changed.")
        return
    _print_change(row)
    _say("Next: mlops models rollback takes it back.", to=err)


def print_rollback(row: Row) -> None:
    """What a rollback did."""
    _print_change(row)


def print_history(history: PromotionHistory, zone: ZoneInfo) -> None:
    """Every decision, the newest last."""
    here = "no version" if history.production is None else f"version {history.production}"
    table = _table(f"{history.name}: {here} is in Production after {len(history.changes)} changes")
    table.add_column("decided", no_wrap=True)
    table.add_column("decision", no_wrap=True)
    for heading in ("version", "before", "ROC-AUC"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("reason", overflow="fold")
    for row in history.decisions:
        before = row["champion_version"] or "–"
        decided = _moment(row["decided_at"], zone)
        cells = (decided, row["decision"], row["model_version"], before, _number(row["roc_auc"]), row["reason"])
        table.add_row(*map(escape, cells))
    out.print(table)


def _print_change(row: Row) -> None:
    instead = f" in place of version {row['champion_version']}" if row["champion_version"] else ""
    _say(f"{row['model_name']} version {row['model_version']} is in Production{instead}: {row['reason']}.")


def _say(line: str, *, to: Console = out) -> None:
    to.print(line, markup=False, highlight=False, soft_wrap=True)


def _table(title: str) -> Table:
    return Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))


def _number(value: float | None, sign: str = "") -> str:
    """A metric: a count as such, a share with four digits."""
    if value is None:
        return "–"
    is_count = float(value).is_integer() and abs(value) > 1
    return f"{value:{sign},.0f}" if is_count else f"{value:{sign}.4f}"


def _moment(instant: datetime | None, zone: ZoneInfo) -> str:
    return "–" if instant is None else f"{instant.astimezone(zone):%Y-%m-%d %H:%M}"
