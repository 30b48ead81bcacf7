"""What `mlops features …` prints. Does not belong here: computing anything; the other commands (`console.py`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.markup import escape
from rich.table import Table

from mlops_platform.console import err, out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_platform.contracts.feature_set import FeatureSet
    from mlops_platform.contracts.features import Feature
    from mlops_platform.feature_pipeline.record import Recorded


def print_features(features: FeatureSet) -> None:
    """Every feature with type, unit, window and meaning, a user's own below a line."""
    table = Table(
        title=f"{len(features.names)} features, version {features.version}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("feature", no_wrap=True)
    for name in ("type", "unit", "window"):
        table.add_column(name, no_wrap=True)
    table.add_column("meaning", overflow="fold")
    own = len(features.own)
    for feature in features.features:
        column = feature.column
        cells = (feature.name, column.type.name.lower(), column.unit or "–", _window(feature), column.meaning)
        is_last_standard = feature is features.features[-own - 1]
        table.add_row(*map(escape, cells), end_section=bool(own) and is_last_standard)
    out.print(table)


def _window(feature: Feature) -> str:
    if not hasattr(feature.how, "window_days"):
        return "–"
    return "all" if feature.how.window_days is None else f"{feature.how.window_days} days"


def print_record(done: Sequence[Recorded]) -> None:
    """What was recorded, and what to do next."""
    for found in done:
        which = "standard features" if found.is_standard else "features of your own"
        if not found.is_changed:
            line = f"{which}: {found.after.version}, nothing to record"
            out.print(line, markup=False, highlight=False, soft_wrap=True)
            continue
        version = found.after.version
        step = version if version == found.before.version else f"{found.before.version} → {version}"
        line = f"{which}: {step}, {found.words()}; written to {found.path}"
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    changed = [found for found in done if found.is_changed]
    if any(found.added or found.changed for found in changed):
        step = "mlops features backfill --from DAY --to DAY computes them for the days there are."
        err.print(f"Next: {step}", highlight=False, soft_wrap=True)
    if any(found.is_standard for found in changed):
        err.print("Next: make docs, and commit the record.", highlight=False, soft_wrap=True)
    elif changed:
        err.print("Keep the record beside your module, in your version control.", highlight=False, soft_wrap=True)
