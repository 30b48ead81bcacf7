"""What the CLI prints: tables and progress with rich. Does not belong here: computing anything."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pyarrow as pa

    from mlops_platform.data_pipeline.crm_check import CrmFindings
    from mlops_platform.erasure.erase import ErasureReport
    from mlops_platform.erasure.scan import Hit
    from mlops_platform.erasure.tables import TableErasure
    from mlops_platform.home_backup.archive import TableState
    from mlops_platform.home_backup.backup import Backup
    from mlops_platform.home_backup.migrate import Migrated
    from mlops_platform.home_backup.restore import Restored
    from mlops_platform.orchestration.demo import Demo
    from mlops_platform.orchestration.doctor import Finding
    from mlops_platform.storage.maintenance import TableUpkeep

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
        yield lambda line: err.print(f"· {line}", markup=False, highlight=False, soft_wrap=True)


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
        sign = "[yellow]hint[/yellow]" if finding.is_hint else sign
        out.print(f"{sign} {finding.subject:<10} {escape(finding.message)}", highlight=False, soft_wrap=True)
        if finding.mend:
            out.print(f"     → {escape(finding.mend)}", highlight=False, soft_wrap=True)


def print_crm(findings: CrmFindings) -> None:
    """What is in a CRM, table by table, and the mapping that may be missing."""
    out.print(findings.url, markup=False, highlight=False, soft_wrap=True)
    for table in findings.tables:
        own = f" ({table.own_name})" if table.own_name != table.name else ""
        if not table.is_found:
            out.print(f"[red]FAIL[/red] {table.name}{escape(own)}: no such table", highlight=False, soft_wrap=True)
            continue
        sign = "[green]ok  [/green]" if table.is_ok else "[red]FAIL[/red]"
        rows = f"{table.rows:,} rows" if table.rows is not None else "not read"
        newest = f", updated_at up to {table.newest}" if table.newest else ""
        out.print(f"{sign} {table.name}{escape(own)}: {rows}{newest}", highlight=False, soft_wrap=True)
        for column in table.columns:
            need = "required" if column.is_required else "optional"
            found = f"{need}, " + ("found" if column.is_found else "missing")
            own = f" ({column.own_name})" if column.own_name != column.name else ""
            out.print(f"       {column.name}{own}: {found}", markup=False, highlight=False, soft_wrap=True)
        out.print(f"       deletions: {table.deletions}", markup=False, highlight=False, soft_wrap=True)
    if findings.mapping:
        out.print("Your names may be meant by these lines in mlops.toml; check each:", highlight=False)
        out.print(findings.mapping, markup=False, highlight=False, soft_wrap=True)


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

    from mlops_platform.storage.csv_cells import csv_cells, csv_schema

    if not out.is_terminal:
        import sys

        sink = sys.stdout.buffer
        with pyarrow.csv.CSVWriter(sink, csv_schema(reader.schema)) as writer:
            for batch in reader:
                writer.write_batch(csv_cells(batch))
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


def print_reads(reads: Iterable[Sequence[str]]) -> None:
    """What a statement reads of each table it names: the table, its columns, the conditions, the files they leave."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("table", no_wrap=True)
    for name in ("columns", "conditions"):
        table.add_column(name, overflow="fold")
    table.add_column("files", justify="right", no_wrap=True)
    for cells in reads:
        table.add_row(*(escape(cell) or "–" for cell in cells))
    out.print(table)


def print_upkeep(done: Sequence[TableUpkeep], *, is_dry_run: bool) -> None:
    """What maintenance did, or would do, to each table that it had anything to do with."""
    title = "Nothing was changed; a run would do this" if is_dry_run else "Maintenance"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("table", overflow="fold")
    for name in ("snapshots\nexpired", "files\ncompacted", "orphans\ndeleted", "bytes\nfreed"):
        table.add_column(name, justify="right", no_wrap=True)
    shown = [entry for entry in done if entry != type(entry)(entry.table)]
    for entry in shown:
        compacted = f"{entry.files_before:,} → {entry.files_after:,}" if entry.files_before else "–"
        figures = (entry.snapshots_expired, entry.orphans, entry.bytes_freed)
        expired, orphans, freed = (f"{figure:,}" if figure else "–" for figure in figures)
        table.add_row(escape(entry.table), expired, compacted, orphans, freed)
    if shown:
        out.print(table)
    else:
        out.print(f"Nothing to do in {len(done)} tables.", highlight=False)
    for entry in shown:
        if entry.note:
            out.print(f"{entry.table}: {entry.note}", markup=False, highlight=False, soft_wrap=True)


def print_backup(done: Backup) -> None:
    """What is in an archive, what is not, and how a home is made from it."""
    _print_states(f"{done.archive}: {done.files:,} files, {done.size / 1e6:,.1f} MB", done.tables)
    for note in done.notes:
        out.print(f"Note: {note}.", markup=False, highlight=False, soft_wrap=True)
    next_step = f"mlops restore {shlex.quote(str(done.archive))} --home NEW_HOME"
    out.print(
        f"Keep it safe: it holds customers' data. Next: {next_step}", markup=False, highlight=False, soft_wrap=True
    )


def print_restored(done: Restored) -> None:
    """What a home restored from an archive holds, and what to do first."""
    _print_states(f"{done.home}: the home {done.was} as of {done.created_at:%Y-%m-%d %H:%M} UTC", done.tables)
    for name in done.left:
        out.print(f"Note: {name} still names {done.was}.", markup=False, highlight=False, soft_wrap=True)
    out.print(f"Next: mlops doctor --home {shlex.quote(str(done.home))}", markup=False, highlight=False, soft_wrap=True)


def print_migrated(done: Migrated) -> None:
    """What is on the server, what stays in the home, and the variables that lead there."""
    table = Table(title="On the server, checked", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("table", no_wrap=True)
    for name in ("rows", "snapshots", "snapshot"):
        table.add_column(name, justify="right")
    for entry in done.tables:
        snapshot = "–" if entry.state.snapshot_id is None else str(entry.state.snapshot_id)
        table.add_row(escape(entry.name), f"{entry.state.rows:,}", f"{entry.snapshots:,}", snapshot)
    out.print(table)
    found = done.registry
    lines = (
        [
            f"MLflow: {found.experiments:,} experiments, {found.runs:,} runs, {found.versions:,} model versions, "
            f"{found.artifacts:,} artifact files."
        ]
        if found is not None
        else []
    )
    lines += [f"Note: {note}." for note in done.notes]
    lines += ["Next, in every process of this home, with the passwords in place of ***:"]
    lines += [f"  export {name}={shlex.quote(value)}" for name, value in done.exports.items()]
    for line in lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _print_states(title: str, states: Mapping[str, TableState]) -> None:
    out.print(title, markup=False, highlight=False, soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("table", no_wrap=True)
    for name in ("rows", "snapshot"):
        table.add_column(name, justify="right")
    for name, state in states.items():
        table.add_row(escape(name), f"{state.rows:,}", "–" if state.snapshot_id is None else str(state.snapshot_id))
    out.print(table)


def print_erasable(found: Sequence[TableErasure]) -> None:
    """What an erasure would take from each table."""
    table = Table(title="To be erased", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("table", overflow="fold")
    for name in ("rows", "files rewritten", "snapshots"):
        table.add_column(name, justify="right")
    for entry in found:
        table.add_row(entry.table, *(f"{n:,}" for n in (entry.rows, entry.files, entry.snapshots)))
    out.print(table if found else "No table names them; logs and reports will be looked through.")
    if found:
        out.print("These tables lose their history: no query or model can go back to it.", highlight=False)


def print_erasure(report: ErasureReport) -> None:
    """What an erasure did, and what is left to do by hand."""
    lines = [
        f"{report.customers:,} customers, {report.newly_listed:,} of them listed as erased only now: "
        "ingestion leaves their rows out.",
        *(f"{t.table}: {t.rows:,} rows erased, {t.snapshots:,} snapshots gone" for t in report.tables),
        f"{report.models:,} runs and model versions marked mlops.not_rebuildable, {len(report.files):,} files changed.",
        *(
            f"{path} is being written and names them: run this again after the service's next file"
            for path in report.busy
        ),
        "The CRM was not touched: delete the customers there too. Backups made before still hold them.",
    ]
    for line in lines:
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def print_hits(hits: Sequence[Hit]) -> None:
    """Where customers are still named."""
    for hit in hits[:MAX_ROWS]:
        out.print(f"{hit.path}: {hit.where}", markup=False, highlight=False, soft_wrap=True)
    out.print(f"{len(hits):,} places name them." if hits else "No file names them.", highlight=False)
