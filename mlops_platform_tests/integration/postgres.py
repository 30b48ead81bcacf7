"""A real PostgreSQL for tests: its own cluster in a temporary folder, on loopback, on a free port.

Belongs here: finding, starting and stopping the server. Does not belong here: tests. Where the machine has no
PostgreSQL the tests that need one are skipped and say why: Debian's package `postgresql` brings it.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from adbc_driver_postgresql import dbapi

from mlops_platform_tests.ports import free_port

PROGRAMS = ("initdb", "pg_ctl", "postgres")
SUPERUSER = "postgres"
START_SECONDS = 60
# Nothing has to survive a power cut; the folder is the socket's too, since the usual one may not be writable.
OPTIONS = "-c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=100 -c shared_buffers=16MB"


@dataclass(frozen=True)
class Server:
    """A running PostgreSQL that trusts whoever reaches its port."""

    port: int
    folder: Path
    call: Callable[..., None] = field(repr=False)

    def url(self, database: str = SUPERUSER, user: str = SUPERUSER) -> str:
        """Address of a database."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Starts it over its folder, and waits until it answers."""
        options = f"-p {self.port} -k {self.folder} {OPTIONS}"
        data, log = str(self.folder / "data"), str(self.folder / "log")
        self.call("pg_ctl", "start", "-D", data, "-w", "-t", str(START_SECONDS), "-l", log, "-o", options)

    def kill(self) -> None:
        """SIGKILL to the server and all its processes: connections break, nothing is closed."""
        leader = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        server = psutil.Process(leader)
        gone = [server, *server.children(recursive=True)]
        for process in gone:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(gone, timeout=START_SECONDS)
        (self.folder / "data" / "postmaster.pid").unlink()

    def stop(self) -> None:
        """Ends it at once, if it runs."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self.call("pg_ctl", "stop", "-D", str(self.folder / "data"), "-m", "immediate", "-w")

    def run(self, *statements: str, database: str = SUPERUSER) -> list[Any]:
        """Runs statements one by one, each its own transaction; returns the rows of the last."""
        rows: list[Any] = []
        with dbapi.connect(self.url(database), autocommit=True) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = cursor.fetchall() if cursor.description else []
        return rows


def find_programs() -> Path | None:
    """The folder with PostgreSQL's server programs: of the PATH, else the newest where distributions put them."""
    folders = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    installed = [*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")]
    folders += sorted(installed, key=lambda folder: int("".join(filter(str.isdigit, str(folder))) or 0), reverse=True)
    complete = (folder for folder in folders if all((folder / name).is_file() for name in PROGRAMS))
    return next(complete, None)


@contextmanager
def running(programs: Path) -> Iterator[Server]:
    """A server in a folder of its own; stopped, and the folder removed, at the end."""
    user = _unprivileged()
    # Not below pytest's folder: that one is closed to the user root runs the server as.
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    try:
        if user:
            os.chown(folder, user.pw_uid, user.pw_gid)
        call = _caller(programs, folder, user)
        data = str(folder / "data")
        call("initdb", "-D", data, "-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        server = Server(free_port(), folder, call)
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> pwd.struct_passwd | None:
    """The user to run the server as, which refuses to be root; None: this one."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _caller(programs: Path, folder: Path, user: pwd.struct_passwd | None) -> Callable[..., None]:
    def call(program: str, *arguments: str) -> None:
        options: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        # The server keeps what it inherits: a pipe as its output would never end.
        with (folder / "output").open("w+b") as output:
            done = subprocess.run(
                [programs / program, *arguments],
                cwd=folder,
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=2 * START_SECONDS,
                check=False,
                **options,
            )
            output.seek(0)
            said = output.read().decode(errors="replace")
        if done.returncode:
            log = folder / "log"
            raise RuntimeError(f"{program} failed: {said}\n{log.read_text() if log.is_file() else ''}")

    return call
