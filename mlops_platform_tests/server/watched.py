"""The whole platform under strace, with secrets and customers that stand out wherever they turn up.

A home keeps its catalog and Dagster's runs in PostgreSQL, its tables in a bucket, its models in a file or, where the
stack has one, with an MLflow server, and reads a CRM in PostgreSQL: every secret there is, is in use. `mlops demo`,
then the processes of `mlops up` on free ports, each child of a strace that writes down every address anything connects
or sends to. Does not belong here: tests.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import httpx
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from adbc_driver_sqlite import dbapi

from mlops_platform.data_pipeline.crm_load import import_files, seed
from mlops_platform_tests.integration.commands import Done, mlops
from mlops_platform_tests.server.stack import Stack

ROOT = Path(__file__).resolve().parents[2]
CUSTOMERS, HISTORY_DAYS, HORIZON_DAYS, UNTIL = 1_000, 190, 30, date(2025, 3, 31)
PATIENCE_SECONDS = 400.0
PORTS = ("Dagster", "MLflow", "service", "metrics")

SECRETS = {
    name: f"canary{name}{token}"
    for name, token in {
        "database": "7Qm2xWv9", "crm": "h4Tz81Lk", "token": "Vb6nR3yD0pXs", "hmac": "p9Jc5fGq2uEw7oNi3aSd6kHl1zMx",
        "smtp": "tY8wB2eK", "slack": "Zr5uC7mA",
    }.items()
}  # fmt: skip
# `mlops demo`, whose model of so little history is promoted as if it were a good one.
DEMO = """
import sys
from mlops_platform.cli import main
from mlops_platform.training_pipeline import promotion
promotion.gate = lambda evaluation: None
sys.argv[0] = "mlops"
main()
"""
# Runs all of `mlops up`, on ports of the test's own.
UP = """
import json, sys
from mlops_platform.orchestration import processes
from mlops_platform.settings import apply_exports, load_settings
processes.PORTS.update(json.loads(sys.argv[1]))
settings = load_settings()
apply_exports(settings)
processes.run_up(settings, print)
"""
_ADDRESS = re.compile(
    r"sin6?_port=htons\((?P<port>\d+)\)[^}]*?"
    r'(?:inet_addr\("(?P<v4>[^"]+)"\)|inet_pton\(AF_INET6, "(?P<v6>[^"]+)")'
)


@dataclass
class Watched:
    """The platform at work.

    Args:
        home: Its home.
        folder: Where output and traces lie.
        environment: What its processes find.
        ports: Port by service.
        said: What commands printed, by command.
    """

    home: Path
    folder: Path
    environment: dict[str, str]
    ports: dict[str, int] = field(default_factory=dict)
    said: dict[str, Done] = field(default_factory=dict)

    def url(self, service: str) -> str:
        """A service's address."""
        return f"http://127.0.0.1:{self.ports[service]}"

    def run(self, *arguments: str) -> Done:
        """A command of `mlops`, kept to be searched."""
        done = self.said[" ".join(arguments)] = mlops(*arguments, **self.environment)
        return done

    def processes(self) -> list[psutil.Process]:
        """All that `mlops up` started, and the MLflow server."""
        return [
            process
            for process in psutil.process_iter()
            if process.username() and str(self.folder) in _variable(process, "MLOPS_HOME")
        ]

    def addresses(self) -> dict[str, set[tuple[str, int]]]:
        """Every address that was connected or sent to, by the trace it stands in."""
        texts = {trace.stem: trace.read_text(errors="replace") for trace in self.folder.glob("*.strace")}
        return {
            name: {(match["v4"] or match["v6"], int(match["port"])) for match in _ADDRESS.finditer(text)}
            for name, text in texts.items()
        }


def is_here(address: str) -> bool:
    """Whether an address is this machine's own."""
    parsed = ipaddress.ip_address(address)
    return bool((getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback)


def customer_ids() -> list[str]:
    """Ids that are nothing else's."""
    return [f"KNDC{number:05d}ZX" for number in range(1, CUSTOMERS + 1)]


def strace(trace: Path) -> list[str]:
    """The command under which a process's addresses are written to the file; skips where there is no strace."""
    if shutil.which("strace") is None:
        pytest.skip("there is no strace here; Debian's package is `strace`")
    calls = ["-e", "trace=connect,sendto,sendmsg,sendmmsg", "-e", "signal=none"]
    return ["strace", "-f", "--seccomp-bpf", "-qq", *calls, "-o", str(trace)]


@contextmanager
def watched(stack: Stack) -> Iterator[Watched]:
    """The platform, after a demo, with `mlops up` running, in the folder that the stack's MLflow server uses."""
    folder = stack.folder
    platform = Watched(folder / "home", folder, _environment(stack, folder))
    _fill_crm(stack, folder)
    crm = platform.environment["MLOPS_CRM_URL"]
    demo = _traced(platform, "demo", sys.executable, "-c", DEMO, "demo", "--json", "--crm", crm)
    with _ended(platform, demo):
        assert demo.wait(2 * PATIENCE_SECONDS) == 0, (folder / "demo.log").read_text()[-4_000:]
    with ExitStack() as ports:
        for name in PORTS:
            held = ports.enter_context(socket.socket())
            held.bind(("127.0.0.1", 0))
            platform.ports[name] = held.getsockname()[1]
    if stack.has_mlflow:
        platform.ports["MLflow"] = int(stack.tracking_uri.rpartition(":")[2])
    process = _traced(platform, "up", sys.executable, "-c", UP, json.dumps(platform.ports))
    with _ended(platform, process):
        _await_services(platform, process)
        yield platform


@contextmanager
def _ended(platform: Watched, process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ends a traced process with all it has started."""
    try:
        yield
    finally:
        # strace takes no notice of SIGTERM while what it traces lives: its child is told.
        if process.poll() is None:
            for child in psutil.Process(process.pid).children():
                child.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            for left in platform.processes():
                left.kill()
            process.kill()
            process.wait()


def _environment(stack: Stack, folder: Path) -> dict[str, str]:
    # Nothing by which a library knows that it is tested: it would send less than it does in earnest.
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
    servers = stack.environment(folder / "home")
    if not stack.has_mlflow:
        del servers["MLOPS_PROFILE"], servers["MLFLOW_TRACKING_URI"]
    return {
        **kept,
        **servers,
        "MLOPS_HORIZON_DAYS": str(HORIZON_DAYS),
        "MLOPS_CRM_URL": _crm_url(stack).replace("postgres@", f"postgres:{SECRETS['crm']}@"),
        "MLOPS_API_TOKEN": SECRETS["token"],
        "MLOPS_HMAC_KEY": SECRETS["hmac"],
        "MLOPS_ALERT_CHANNELS": "log,email,slack",
        # Nobody answers there: what is said about a failure is searched too.
        "MLOPS_SMTP_URL": f"smtp://alerts:{SECRETS['smtp']}@127.0.0.1:9",
        "MLOPS_ALERT_EMAIL_TO": "team@example.org",
        "MLOPS_SLACK_WEBHOOK_URL": f"http://127.0.0.1:9/services/{SECRETS['slack']}",
    }


def _crm_url(stack: Stack) -> str:
    return stack.database.url(f"{stack.name}_crm")


def _fill_crm(stack: Stack, folder: Path) -> None:
    """A synthetic CRM under ids, names and addresses of its own, in PostgreSQL."""
    local, files = folder / "crm.db", folder / "crm"
    seed(f"sqlite:///{local}", customers=CUSTOMERS, days=HISTORY_DAYS, seed=11, until=UNTIL)
    files.mkdir()
    with dbapi.connect(str(local)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT DISTINCT customer_id FROM customers WHERE customer_id <> '' ORDER BY 1")
        renamed = dict(zip([row[0] for row in cursor.fetchall()], customer_ids(), strict=False))
        for table in ("customers", "transactions"):
            cursor.execute(f"SELECT * FROM {table}")
            rows = cursor.fetch_arrow_table()
            ids = [renamed.get(name, name) for name in rows["customer_id"].to_pylist()]
            rows = rows.set_column(rows.schema.get_field_index("customer_id"), "customer_id", pa.array(ids))
            for column, form in (("name", "Nomen {}"), ("email", "{}@kndc.example")):
                if column in rows.schema.names:
                    cells = pa.array([form.format(name and name.lower()) for name in ids])
                    rows = rows.set_column(rows.schema.get_field_index(column), column, cells)
            pq.write_table(rows, files / f"{table}.parquet")
    stack.database.run(f"CREATE DATABASE {stack.name}_crm")
    import_files(files, _crm_url(stack))
    shutil.rmtree(files)
    local.unlink()


def _traced(platform: Watched, name: str, *command: str) -> subprocess.Popen[bytes]:
    with (platform.folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [*strace(platform.folder / f"{name}.strace"), *command],
            cwd=platform.folder,
            env={**platform.environment, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )


def _await_services(platform: Watched, process: subprocess.Popen[bytes]) -> None:
    pages = {"Dagster": "/server_info", "MLflow": "/health", "service": "/readyz", "metrics": "/metrics"}
    for name, page in pages.items():
        _eventually(platform.url(name) + page, platform, process)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=20).status_code == 200
    except httpx.TransportError:
        return False


def _eventually(url: str, platform: Watched, process: subprocess.Popen[bytes]) -> None:
    """Waits for the page; fails when `mlops up` ends or the time is over."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _answers(url):
        if process.poll() is not None or time.monotonic() > deadline:
            logs = [platform.folder / "up.log", *sorted((platform.home / "logs").glob("*.log"))]
            pytest.fail("\n".join(f"{log.name}: {log.read_text(errors='replace')[-1_500:]}" for log in logs))
        time.sleep(0.2)


def _variable(process: psutil.Process, name: str) -> str:
    try:
        return process.environ().get(name, "")
    except psutil.Error:
        return ""
