"""What `mlops rebuild` and `mlops lineage` print. Does not belong here: computing anything; other commands."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from rich.text import Text
from rich.tree import Tree

from mlops_platform.console import err, out
from mlops_platform.training_pipeline.lineage import BATCH

if TYPE_CHECKING:
    from collections.abc import Iterable
    from zoneinfo import ZoneInfo

    from mlops_platform.training_pipeline.lineage import Fact, Node
    from mlops_platform.training_pipeline.rebuild import Rebuild
    from mlops_platform.training_pipeline.rescoring import Agreement

_LONGEST_FACT = 60


def print_rebuild(done: Rebuild) -> None:
    """What was made again, and how it compares; what differs on stderr."""
    model = done.model
    _say(f"{model.name} version {model.version} ({done.model_type}), trained again")
    _say(f"  on             ml.training_set@{done.training_snapshot_id}")
    hashes = "identical" if done.hash == done.saved_hash else f"{done.hash}, and was {done.saved_hash}"
    _say(f"  model hash     {hashes}")
    _say(f"  test rows      {_agreement(done.test_rows, 'test rows')}")
    _say(f"  predictions    {_agreement(done.predictions, 'predictions')}")
    if done.is_training_set_equal is not None:
        rows = "identical" if done.is_training_set_equal else "other rows"
        _say(f"  training set   {rows}, made again from its features and labels")
    if done.is_identical:
        _say("It is the same model.")
        _list("Changed since it was trained, without effect:", done.changes)
        return
    _list("It is not the same model:", done.differences, is_error=True)
    _list("Changed since it was trained:", done.changes, is_error=True)


def print_lineage(node: Node, zone: ZoneInfo, *, is_complete: bool) -> None:
    """The tree of sources.

    Args:
        node: Its root.
        zone: Of the instants.
        is_complete: Whether every bronze batch is listed.
    """
    tree = Tree(_label(node, zone))
    _grow(tree, node, zone, is_complete=is_complete)
    out.print(tree)


def _grow(tree: Tree, node: Node, zone: ZoneInfo, *, is_complete: bool) -> None:
    for source in node.made_from:
        if source.kind != BATCH or is_complete:
            _grow(tree.add(_label(source, zone)), source, zone, is_complete=is_complete)


def _label(node: Node, zone: ZoneInfo) -> Text:
    """Kind and name, and the facts below; cells of a terminal, nothing in them is markup."""
    label = Text.assemble((node.kind, "bold"), f" {node.name}", overflow="fold")
    if node.kind == BATCH:
        return label.append(f" · {' · '.join(_facts(node, zone))}")
    return label.append("".join(f"\n  {line}" for line in _facts(node, zone)))


def _facts(node: Node, zone: ZoneInfo) -> list[str]:
    return [f"{key.replace('_', ' ')}: {_fact(value, zone)}" for key, value in node.facts.items()]


def _fact(value: Fact, zone: ZoneInfo) -> str:
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return f"{value.astimezone(zone):%Y-%m-%d %H:%M:%S}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}"
    text = str(value)
    return text if len(text) <= _LONGEST_FACT else f"{text[:_LONGEST_FACT]}…"


def _agreement(found: Agreement, what: str) -> str:
    if not found.rows and not found.lost:
        return f"there are no {what}"
    differ = f", largest difference {found.largest_difference:.3g}" if found.identical < found.rows else ""
    lost = f"; the features of {found.lost:,} more are gone" if found.lost else ""
    return f"{found.identical:,} of {found.rows:,} {what} identical{differ}{lost}"


def _list(title: str, lines: Iterable[str], *, is_error: bool = False) -> None:
    for number, line in enumerate(lines):
        if not number:
            _say(title, is_error=is_error)
        _say(f"  {line}", is_error=is_error)


def _say(line: str, *, is_error: bool = False) -> None:
    (err if is_error else out).print(line, markup=False, highlight=False, soft_wrap=True)
