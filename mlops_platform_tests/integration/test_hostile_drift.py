"""Names and values of columns that try to become code: in the drift report and in the Dagster UI, in real Chromium.

Does not belong here: what the report says (`unit/monitoring/test_report.py`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import httpx
import pyarrow as pa
import pytest

from mlops_platform.monitoring.drift import DriftResult, Kind, detect_drift
from mlops_platform.monitoring.inert import printable
from mlops_platform.monitoring.picture import worst_columns_png
from mlops_platform.monitoring.report import write_drift_report
from mlops_platform.monitoring.tick import NO_DRIFT_CHECK, DriftReport, drift_draft
from mlops_platform.orchestration.drift_shown import drift_metadata
from mlops_platform.orchestration.io_managers import IcebergIOManager
from mlops_platform.orchestration.tables import propose, table_asset
from mlops_platform.settings import load_settings
from mlops_platform_tests.integration.browser import FLAG, chromium, executable, visit
from mlops_platform_tests.integration.hostile_texts import HOSTILE_TEXTS
from mlops_platform_tests.ports import free_port
from mlops_platform_tests.scale import rounds

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROWS = 120
TICK = datetime(2024, 7, 1, tzinfo=UTC)
KEY = ["monitoring", "drift_report"]
START_SECONDS = 60.0
_LOCATION = """
import dagster as dg

key = ["monitoring", "drift_report"]

@dg.asset(key=key, check_specs=[dg.AssetCheckSpec("no_drift", asset=key)])
def drift_report(): ...

defs = dg.Definitions(assets=[drift_report])
"""


def names() -> list[str]:
    """Every text in the whole proof, else each fifth: all kinds of payload, in turn with each kind of code."""
    count = rounds(len(HOSTILE_TEXTS), 40)
    return HOSTILE_TEXTS[:: len(HOSTILE_TEXTS) // count]


def hostile_tables() -> tuple[pa.Table, pa.Table]:
    """Each text is a column's name, and a value of three columns; in all of them its share has grown."""
    texts = names()

    def table(*, moved: bool) -> pa.Table:
        return pa.table(
            {
                name: [texts[(at + (0 if moved and row % 2 else row % 3)) % len(texts)] for row in range(ROWS)]
                for at, name in enumerate(texts)
            }
        )

    return table(moved=False), table(moved=True)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> DriftReport:
    reference, current = hostile_tables()
    columns: dict[str, Kind] = dict.fromkeys(reference.column_names, "categorical")
    result: DriftResult = detect_drift(reference, current, columns=columns)
    assert len(result.drifted) == len(columns)
    path = tmp_path_factory.mktemp("hostile") / "drift.html"
    write_drift_report(reference, current, result, columns=columns, path=path)
    draft = drift_draft(result, tick=TICK, model_name=names()[0], model_version="1", created_at=TICK)
    return DriftReport(draft, result, path, worst_columns_png(reference, current, result))


@pytest.fixture(scope="module")
def browser(dagster_ui: str) -> Iterator[Browser]:
    """Started last: while it runs, Dagster can't execute anything in this thread."""
    with chromium() as found:
        yield found


def test_a_payload_that_runs_is_noticed(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("".join(f"<p>{text}</p>" for text in HOSTILE_TEXTS[:48] if "http-equiv" not in text))
    with visit(browser) as seen:
        seen.page.goto(path.as_uri())
        seen.page.wait_for_function(f"window.{FLAG} !== undefined")
        assert seen.dialogs
        assert len(seen.executed()) > 10


def test_nothing_runs_in_the_report(browser: Browser, report: DriftReport) -> None:
    with visit(browser) as seen:
        seen.page.goto(report.path.as_uri(), timeout=120_000)
        drawn = f"document.querySelectorAll('.js-plotly-plot').length >= {len(report.result.columns)}"
        seen.page.wait_for_function(drawn, timeout=120_000)
        assert seen.executed() == []
        assert seen.errors == []
        assert not [url for url in seen.requests if url.startswith(("http", "ws"))]
        # The texts are there, to be read.
        body = seen.page.inner_text("#decision")
        assert "<script>window.hacked=0</script>" in body
        assert f"{len(report.result.columns)} of {len(report.result.columns)} columns drifted" in body


@pytest.fixture(scope="module")
def dagster_ui(report: DriftReport, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Dagster's web server over an instance in which the report was materialized; its address."""
    executable()
    folder = tmp_path_factory.mktemp("ui")
    settings = load_settings(home=folder / "home")

    @table_asset(KEY, extra_checks=[NO_DRIFT_CHECK])
    def drift_report() -> Iterator[Any]:
        yield from propose(settings, report.draft, drift_metadata(report, settings.reports_url))

    dagster_home = folder / "dagster"
    dagster_home.mkdir()
    (dagster_home / "dagster.yaml").write_text("telemetry:\n  enabled: false\nnux:\n  enabled: false\n")
    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        outcome = dg.materialize([drift_report], instance=instance, resources={"iceberg": IcebergIOManager(settings)})
    assert outcome.success
    location = folder / "location.py"
    location.write_text(_LOCATION)
    with _web_server(location, dagster_home) as address:
        yield address


@contextmanager
def _web_server(location: Path, dagster_home: Path) -> Iterator[str]:
    port = free_port()
    command = [str(Path(sys.executable).parent / "dagster-webserver"), "-f", str(location)]
    environment = {**os.environ, "DAGSTER_HOME": str(dagster_home)}
    log = dagster_home / "web.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "-h", "127.0.0.1", "-p", str(port)], env=environment, stdout=output, stderr=output
        )
    address, deadline = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
    try:
        while not _answers(address):
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"waited in vain for the web server: {log.read_text()}")
            time.sleep(0.1)  # between two looks at the condition, not in place of one
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/server_info").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def test_nothing_runs_in_the_dagster_ui_and_it_shows_table_and_picture(browser: Browser, dagster_ui: str) -> None:
    with visit(browser) as seen:
        seen.page.goto(f"{dagster_ui}/assets/monitoring/drift_report?view=overview")
        seen.page.get_by_text("Show Markdown", exact=False).first.click()
        picture = seen.page.locator("img[src^='data:image/png;base64,']")
        picture.wait_for()
        assert picture.evaluate("image => image.naturalWidth") > 300
        seen.page.keyboard.press("Escape")
        assert seen.page.locator(f"a[href='{load_settings().reports_url}/drift.html']").count() > 0
        assert seen.page.get_by_text(printable(names()[30]), exact=True).count() == 1

        seen.page.goto(f"{dagster_ui}/assets/monitoring/drift_report?view=checks")
        said = seen.page.get_by_text(f"{len(names())} of {len(names())} columns drifted")
        said.first.wait_for()
        assert f"{names()[0]}, {names()[1]}" in said.first.inner_text()
        assert seen.executed() == []
        assert seen.errors == []
        assert not [url for url in seen.requests if not url.startswith((dagster_ui, "data:"))]
