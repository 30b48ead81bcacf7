"""What the CLI prints: tables and progress with rich. Does not belong here: computing anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa

    from mlops_platform.orchestration.demo import Demo
    from mlops_platform.orchestration.doctor import Finding

MAX_ROWS = 1_000

out = Console()
err = Console(stderr=True)


@contextmanager
def progress(is_quiet: bool = False) -> Iterator[Callable[[str], None]]:
    """A spinner with the latest line; on a pipe or a log, one line a step."""
    if is_quiet:
        yield lambda line: None
    elif err.is_terminal:
        with err.status("starting") as status:
            yield lambda line: status.update(escape(line))
    else:
        yield lambda line: err.print(f"· {line}", markup=False, highlight=False)


def print_demo(demo: Demo, next_steps: Mapping[str, str]) -> None:
    """The table of a demo, the model's score beside its baselines, and what to open next."""
    # Without vertical lines the table fits 80 columns, the longest asset name and a snapshot id included.
    table = Table(
        title=f"Demo as of {demo.as_of}: {demo.status}", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column("asset", no_wrap=True)
    for name in ("rows", "snapshot", "seconds", "checks"):
        table.add_column(name, justify="right")
    for stage in demo.stages:
        failed = f", {stage.checks_failed} failed" if stage.checks_failed else ""
        checks = f"{stage.checks_passed} ok{failed}" if stage.checks_passed or stage.checks_failed else "–"
        rows = f"{stage.rows:,}" if stage.rows is not None else "–"
        snapshot = stage.snapshot_id if stage.snapshot_id not in {None, "None"} else "–"
        table.add_row(stage.asset, rows, snapshot, f"{stage.seconds:.1f}", checks)
    out.print(table)
    _print_model(demo)
    for what, how in next_steps.items():
        out.print(f"  {what:<22}{how}", markup=False, highlight=False, soft_wrap=True)


def _print_model(demo: Demo) -> None:
    found, model = demo.decision.evaluation, demo.decision.model
    scores = Table(
        title=f"Held-out ROC-AUC on {found.rows:,} customers at {found.evaluation_date}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    scores.add_column("score")
    scores.add_column("ROC-AUC", justify="right")
    rows: list[tuple[str, float | None]] = [
        (f"{model.name} version {model.version} ({model.stage})", found.metrics.roc_auc),
        ("recency only", found.recency.theirs),
        ("churn_score alone", found.churn_score.theirs),
        ("champion", found.champion.theirs if found.champion is not None else None),
        ("best possible (exact posterior)", demo.best_possible),
    ]
    for name, value in rows:
        if value is not None:
            scores.add_row(name, f"{value:.4f}")
    out.print(scores)
    out.print(f"Gate: {demo.reason}.", markup=False, highlight=False, soft_wrap=True)
    if demo.predictions is not None:
        drift = "drift detected" if demo.drift_detected else "no drift detected"
        out.print(f"Predictions: {demo.predictions:,} customers. Drift: {drift}.", highlight=False)
    out.print(f"Took {demo.seconds:.0f} s. Next:", highlight=False)


def print_findings(findings: list[Finding]) -> None:
    """The doctor's findings, each with the command that mends it."""
    for finding in findings:
        sign = "[green]ok  [/green]" if finding.is_ok else "[red]FAIL[/red]"
        out.print(f"{sign} {finding.subject:<10} {escape(finding.message)}", highlight=False, soft_wrap=True)
        if finding.mend:
            out.print(f"     → {escape(finding.mend)}", highlight=False, soft_wrap=True)


def print_settings(found: Mapping[str, tuple[str, str]]) -> None:
    """Every setting, its value and where it came from."""
    table = Table()
    for name in ("setting", "value", "from"):
        table.add_column(name, overflow="fold")
    for name, (value, source) in found.items():
        table.add_row(name, escape(value), source)
    out.print(table)


def print_rows(reader: pa.RecordBatchReader) -> None:
    """Rows as a table, streamed as CSV when the output is no terminal; a terminal gets the first 1,000."""
    import pyarrow.csv

    if not out.is_terminal:
        import sys

        sink = sys.stdout.buffer
        with pyarrow.csv.CSVWriter(sink, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
        return
    table = Table()
    for name in reader.schema.names:
        table.add_column(escape(name), overflow="fold")
    shown = 0
    for batch in reader:
        for row in batch.slice(0, MAX_ROWS - shown).to_pylist():
            table.add_row(*("–" if value is None else escape(str(value)) for value in row.values()))
            shown += 1
        if shown >= MAX_ROWS:
            break
    out.print(table)
    if shown >= MAX_ROWS:
        err.print(f"the first {MAX_ROWS:,} rows; --output FILE.parquet writes all", highlight=False)
