"""`mlops …`: thin commands, each calls one function below and prints what it returns.

Heavy imports stay inside the commands. A mistake the user can mend ends in one message and exit code 2.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from mlops_platform.cli_airflow import airflow_app
from mlops_platform.cli_alerts import alerts_app
from mlops_platform.cli_environment import env, execute, settings
from mlops_platform.cli_features import features_app
from mlops_platform.cli_lineage import lineage, rebuild
from mlops_platform.cli_metrics import metrics_app
from mlops_platform.cli_models import models_app
from mlops_platform.cli_options import EXIT_USER_ERROR, Home, Profile, reporting
from mlops_platform.cli_options import day as _day
from mlops_platform.cli_options import settings as _settings
from mlops_platform.cli_training import tune
from mlops_platform.errors import InputError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
crm_app = typer.Typer(no_args_is_help=True, help="Make or fill a CRM database.")
app.add_typer(crm_app, name="crm")
app.add_typer(features_app, name="features")
app.add_typer(airflow_app, name="airflow")
app.add_typer(metrics_app, name="metrics")
app.add_typer(models_app, name="models")
app.add_typer(alerts_app, name="alerts")

Into = Annotated[str, typer.Option("--into", help="sqlite:///file.db or postgresql://user@host/database")]


def main() -> None:
    """Runs a command; a PlatformError becomes one message on stderr and exit code 2."""
    with reporting():
        app()


@crm_app.command("seed")
def crm_seed(
    into: Into,
    customers: Annotated[int, typer.Option(help="Number of customers.")] = 5_000,
    days: Annotated[int, typer.Option(help="Days of history.")] = 730,
    seed: Annotated[int, typer.Option(help="Seed of the generator.")] = 7,
    until: Annotated[str, typer.Option(help="Last day of the history.")] = "2026-06-30",
) -> None:
    """Make a synthetic CRM: customers who buy until they leave, with a little dirt."""
    from mlops_platform.console import err, progress
    from mlops_platform.data_pipeline import crm_load

    last = _day(until, "--until")
    with progress() as say:
        say(f"making {customers:,} customers over {days} days")
        load = crm_load.seed(into, customers=customers, days=days, seed=seed, until=last or date.max)
    _print_load(err, load, into)


@crm_app.command("import")
def crm_import(
    folder: Annotated[Path, typer.Argument(help="Folder with customers.* and transactions.* (Parquet or CSV).")],
    into: Into,
) -> None:
    """Load Parquet or CSV files into a CRM database; every row is kept."""
    from mlops_platform.console import err, progress
    from mlops_platform.data_pipeline import crm_load

    with progress() as say:
        say(f"loading {folder}")
        load = crm_load.import_files(folder, into)
    _print_load(err, load, into)


@crm_app.command("check")
def crm_check(
    url_or_source: Annotated[str, typer.Argument(help="Database URL, or the name of a source in the settings.")],
    home: Home = None,
) -> None:
    """Show what ingestion would find in a CRM, and a mapping to start from where names differ."""
    from mlops_platform.console import print_crm
    from mlops_platform.data_pipeline.crm_check import check_crm
    from mlops_platform.settings import load_settings

    findings = check_crm(load_settings(home=home), url_or_source)
    print_crm(findings)
    if not findings.is_ok:
        raise typer.Exit(EXIT_USER_ERROR)


def _print_load(err: Any, load: Any, into: str) -> None:
    from mlops_platform.settings import mask_secrets

    verb = "loaded" if load.is_new else "already there, nothing loaded:"
    err.print(
        f"{verb} {load.customers:,} customers and {load.transactions:,} transactions in {mask_secrets(into)}",
        highlight=False,
        soft_wrap=True,
    )
    err.print(f"Next: mlops demo --crm {shlex.quote(mask_secrets(into))}", highlight=False, soft_wrap=True)


@app.command()
def demo(
    crm: Annotated[str | None, typer.Option("--crm", help="CRM database URL; none: a synthetic one.")] = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="Last complete day; none: the CRM's last.")] = None,
    home: Home = None,
    profile: Profile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print demo.json instead of tables.")] = False,
) -> None:
    """Run the whole line once: CRM, tables, features, model, predictions, drift report."""
    from mlops_platform.console import out, print_demo, progress

    day = _day(as_of, "--as-of")
    with progress(is_quiet=as_json) as say:
        say("loading the platform")
        found = _settings(home, profile=profile)
        from mlops_platform.definitions import build_definitions
        from mlops_platform.orchestration.demo import run_demo

        result = run_demo(found, build_definitions, crm_url=crm, as_of=day, progress=say)
    text = json.dumps(result.as_dict(), indent=1)
    (found.home / "demo.json").write_text(text + "\n", encoding="utf-8")
    if as_json:
        out.print_json(text)
        return
    option = f" --home {shlex.quote(str(home))}" if home is not None else ""
    option += f" --profile {profile}" if profile is not None else ""
    steps = {
        "look at everything": f"mlops up{option}",
        "ask the tables": f'mlops query{option} "SELECT * FROM ml.predictions LIMIT 5"',
        "this result as JSON": str(found.home / "demo.json"),
    }
    if result.report_path:
        steps["drift report"] = result.report_path
    print_demo(result, steps)


@app.command()
def query(
    *,
    sql: Annotated[str, typer.Argument(help="One SELECT in Athena's SQL.")],
    output: Annotated[Path | None, typer.Option("--output", help="Write to FILE.parquet or FILE.csv.")] = None,
    at: Annotated[
        list[str] | None,
        typer.Option("--at", help="TABLE=SNAPSHOT_OR_TAG, or of the only table TAG: an earlier state."),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show what would be read instead of rows.")] = False,
    home: Home = None,
    profile: Profile = None,
) -> None:
    """Ask the tables with SQL, such as SELECT * FROM silver.customers LIMIT 5."""
    from mlops_platform.console import err, print_reads, print_rows
    from mlops_platform.storage import query as asking
    from mlops_platform.storage.athena_query import athena_query
    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.query_states import states as read_states

    lake, states = Lake(_settings(home, profile=profile)), read_states(at or ())
    if explain:
        print_reads(read.texts() for read in asking.explain(lake, sql, at=states))
        return
    is_athena = lake.settings.engine == "athena"
    with athena_query(lake.settings, sql, at=states) if is_athena else asking.query(lake, sql, at=states) as reader:
        if output is None:
            with asking.fitting("CSV"):
                print_rows(reader)
        else:
            err.print(f"{asking.write(reader, output):,} rows in {output}", highlight=False, soft_wrap=True)


app.command()(env)
app.command()(settings)
app.command("exec")(execute)


@app.command()
def doctor(
    subjects: Annotated[
        list[str] | None, typer.Argument(metavar="[SUBJECT…]", help="Look at these only, such as tables or MLflow.")
    ] = None,
    home: Home = None,
    profile: Profile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Check data, permissions, a query, MLflow, Dagster, Airflow, clock, disk, ports; show what mends each."""
    from mlops_platform.console import out, print_findings
    from mlops_platform.orchestration.doctor import examine

    findings = examine(_settings(home, profile=profile), subjects or ())
    if as_json:
        out.print_json(json.dumps([asdict(finding) for finding in findings]))
    else:
        print_findings(findings)
    if not all(finding.is_ok for finding in findings):
        raise typer.Exit(EXIT_USER_ERROR)


@app.command()
def train(
    as_of: Annotated[str | None, typer.Option("--as-of", help="Last complete day; none: the last in silver.")] = None,
    model_type: Annotated[
        str,
        typer.Option("--model-type", help="xgboost, random_forest, logistic_regression, average, or one of your own."),
    ] = "xgboost",
    home: Home = None,
    profile: Profile = None,
) -> None:
    """Train a model on what was ingested, evaluate it, and promote it if it passes the gate."""
    from mlops_platform.console import out, progress

    day = _day(as_of, "--as-of")
    with progress() as say:
        say("loading the platform")
        found = _settings(home, profile=profile)
        from mlops_platform.definitions import build_definitions
        from mlops_platform.orchestration.demo import run_training

        decision = run_training(found, build_definitions, as_of=day, progress=say, model_type=model_type)
    auc = decision.evaluation.metrics.roc_auc
    model = decision.model
    out.print(f"{model.name} version {model.version}: {model.stage}, held-out ROC-AUC {auc:.4f}", highlight=False)
    out.print(f"Gate: {decision.reason}.", markup=False, highlight=False, soft_wrap=True)


app.command()(tune)


@app.command()
def maintain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing, show what would be done.")] = False,
    keep_days: Annotated[int, typer.Option("--keep-days", min=0, help="Keep every snapshot younger than this.")] = 30,
    orphan_days: Annotated[int, typer.Option("--orphan-days", min=1, help="Keep every file younger than this.")] = 3,
    home: Home = None,
    profile: Profile = None,
) -> None:
    """Expire old snapshots, compact small files, delete files that no table refers to."""
    from mlops_platform.console import print_upkeep
    from mlops_platform.storage import maintenance
    from mlops_platform.storage.lake import Lake

    lake = Lake(_settings(home, profile=profile))
    done = maintenance.maintain(
        lake,
        # Files and snapshots carry the machine's time, whatever day MLOPS_AS_OF says it is.
        now=datetime.now(UTC),
        keep=maintenance.referenced_snapshots(lake),
        keep_days=keep_days,
        orphan_days=orphan_days,
        dry_run=dry_run,
    )
    print_upkeep(done, is_dry_run=dry_run)


@app.command()
def backup(
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="The archive to make: FILE.tar or FILE.tar.gz.")],
    home: Home = None,
) -> None:
    """Copy the whole home (tables, models, runs, reports) to one archive, while it is in use."""
    from mlops_platform.console import print_backup, progress
    from mlops_platform.home_backup.backup import back_up

    with progress() as say:
        # When the archive is made is the machine's time, whatever day MLOPS_AS_OF says it is.
        done = back_up(_settings(home), archive, created_at=datetime.now(UTC), say=say)
    print_backup(done)


@app.command()
def restore(
    archive: Annotated[Path, typer.Argument(metavar="FILE", help="An archive made by `mlops backup`.")],
    home: Home = None,
) -> None:
    """Make a home from an archive, in any place; nothing is written over."""
    from mlops_platform.console import print_restored, progress
    from mlops_platform.home_backup.restore import restore as restore_home

    with progress() as say:
        done = restore_home(_settings(home), archive, say=say)
    print_restored(done)


@app.command()
def migrate(
    to: Annotated[str, typer.Option("--to", help="Where to: server.")],
    catalog_url: Annotated[
        str | None, typer.Option("--catalog-url", help="postgresql://user@host/database [MLOPS_CATALOG_URL]")
    ] = None,
    warehouse_url: Annotated[
        str | None, typer.Option("--warehouse-url", help="s3://bucket/folder [MLOPS_WAREHOUSE_URL]")
    ] = None,
    tracking_uri: Annotated[
        str | None,
        typer.Option(
            "--tracking-uri", help="MLflow's database, postgresql://…; none: runs stay. [MLFLOW_TRACKING_URI]"
        ),
    ] = None,
    home: Home = None,
) -> None:
    """Move tables, runs and models to a database and a bucket, with all history; the home stays as it is."""
    from mlops_platform.console import print_migrated, progress
    from mlops_platform.home_backup import migrate as moving
    from mlops_platform.settings import apply_exports, load_settings

    moving.require_destination(to)
    target = load_settings(
        home=home,
        # What moves is an embedded home, and into MLflow's database itself.
        profile="embedded",
        catalog_url=catalog_url,
        warehouse_url=warehouse_url,
        mlflow_tracking_uri=tracking_uri,
    )
    apply_exports(moving.embedded(target))
    with progress() as say:
        done = moving.migrate(target, say=say)
    print_migrated(done)


@app.command()
def erase(
    ids: Annotated[list[str] | None, typer.Argument(metavar="CUSTOMER_ID…", help="Customers to erase.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Erase without asking.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Look for the ids in every file; alone, only that.")] = False,
    ids_file: Annotated[Path | None, typer.Option("--ids-file", help="A file with one id a line.")] = None,
    home: Home = None,
) -> None:
    """Erase customers from tables, their history, logs and reports, and keep them out of later ingestions."""
    from mlops_platform import erasure
    from mlops_platform.console import err, print_erasable, print_erasure, print_hits, progress
    from mlops_platform.storage.lake import Lake

    chosen, customers = _settings(home), [*(ids or ()), *_lines(ids_file)]
    lake = Lake(chosen)
    if yes or not verify:
        if not yes:
            print_erasable(erasure.preview(lake, customers))
            _confirm("Erase them for good?")
        with progress() as say:
            say("erasing")
            # Files carry the machine's time, whatever day MLOPS_AS_OF says it is.
            report = erasure.erase(lake, customers, now=datetime.now(UTC))
        print_erasure(report)
    if verify:
        with progress() as say:
            say(f"reading every file of {chosen.home}")
            hits = erasure.verify(chosen, customers)
        print_hits(hits)
        if hits:
            raise typer.Exit(EXIT_USER_ERROR)
    elif yes:
        err.print("Next: the same with --verify alone looks for what is left.", highlight=False)


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} can't be read: {error}", expected="a text file with one id a line") from error


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise InputError(
            "nobody is there to confirm", expected="a terminal", hint="add --yes to erase without being asked."
        )
    typer.confirm(question, abort=True)


@app.command()
def up(home: Home = None, profile: Profile = None) -> None:
    """Start Dagster's UI and daemon, MLflow's UI, the prediction service and the metrics; Ctrl-C stops all."""
    from mlops_platform.console import out
    from mlops_platform.orchestration.processes import run_up

    run_up(
        _settings(home, profile=profile), lambda line: out.print(line, markup=False, highlight=False, soft_wrap=True)
    )


app.command()(rebuild)
app.command()(lineage)


if __name__ == "__main__":
    main()
