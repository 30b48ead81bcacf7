"""docker-compose.yml without an engine: every service's own command as a process, on loopback and free ports.

Belongs here: starting in the file's order, health checks, what the images of others do before their command. Does not
belong here: where things are (`placing.py`), tests, the containers' walls (users, networks, limits), which
`unit/test_compose.py` reads.
"""

from __future__ import annotations

import os
import pwd
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from mlops_platform_tests.server.placing import LOOPBACK, ROOT, Places
from tools.make_secrets import make

START_SECONDS, STOP_SECONDS = 600.0, 30.0


@dataclass
class Service:
    """One service of the file, as a process."""

    name: str
    log_file: Path
    process: subprocess.Popen[bytes]
    is_done: bool = False
    next_look: float = 0.0

    @property
    def log(self) -> str:
        """What it has said."""
        return self.log_file.read_text(errors="replace")


@dataclass
class Composition(Places):
    """The services and their processes."""

    services: dict[str, Service] = field(default_factory=dict)
    # Ana's, who may log in on the team's port.
    password: str = field(default="", repr=False)

    def start(self, names: list[str]) -> None:
        """Starts services, each when those it waits for are well, until all are well.

        Raises:
            RuntimeError: One ended, or was not well in time.
        """
        deadline = time.monotonic() + START_SECONDS
        while waiting := [name for name in names if not self._is_done(name)]:
            for name in waiting:
                if name in self.services:
                    self._look(self.services[name])
                elif all(map(self._is_done, self.asked[name].get("depends_on", {}))):
                    self.services[name] = self._started(name)
            if time.monotonic() > deadline:
                said = [f"── {name}\n{self.services[name].log[-2000:]}" for name in waiting if name in self.services]
                raise RuntimeError("\n".join([f"not well within {START_SECONDS:g} s: {', '.join(waiting)}", *said]))
            time.sleep(0.1)

    def is_well(self, name: str) -> bool:
        """Whether a service's own health check passes."""
        command = [self.placed(name, each) for each in self.asked[name]["healthcheck"]["test"][1:]]
        options: dict[str, Any] = {"env": self.environment(name), "cwd": self.working_folder(name)}
        return subprocess.run(command, capture_output=True, timeout=120, check=False, **options).returncode == 0

    def stop(self) -> None:
        """SIGTERM to every process, and SIGKILL to what is left of them and their children."""
        running = [service.process for service in self.services.values() if service.process.poll() is None]
        parents = [psutil.Process(process.pid) for process in running]
        family = [*parents, *(child for parent in parents for child in parent.children(recursive=True))]
        for process in running:
            process.terminate()
        _, left = psutil.wait_procs(family, timeout=STOP_SECONDS)
        for each in left:
            each.kill()
        for process in running:
            process.wait()

    def _is_done(self, name: str) -> bool:
        return name in self.services and self.services[name].is_done

    def _started(self, name: str) -> Service:
        self.prepare(name)
        command, options = self.command(name), {}
        if name == "postgres":
            command, options = self._new_cluster(command)
        if name == "airflow-init":
            # As the image is built.
            dags = (*("mlops", "airflow", "generate", "--runner", "graphql"), "--out", str(self.folder / "dags"))
            build = {"PATH": self.path("code-location"), "MLOPS_HOME": str(self.folder / "build")}
            subprocess.run(dags, env=build, capture_output=True, check=True)
        if name == "proxy" and os.geteuid() == 0:
            # Root's workers would be somebody else's, who may not read here; in its container there is no root.
            command[-1] += " user root;"
        log_file = self.folder / name / "log"
        with log_file.open("ab") as log:
            process = subprocess.Popen(
                command, env=self.environment(name), cwd=self.working_folder(name), stdin=subprocess.DEVNULL,
                stdout=log, stderr=subprocess.STDOUT, start_new_session=True, **options,
            )  # fmt: skip
        return Service(name, log_file, process)

    def _look(self, service: Service) -> None:
        """Asks a started service whether it is well, or done."""
        code, is_one_shot = service.process.poll(), "healthcheck" not in self.asked[service.name]
        if code is not None and not (is_one_shot and code == 0):
            raise RuntimeError(f"{service.name} ended with {code}: {service.log[-4000:]}")
        if is_one_shot:
            service.is_done = code == 0
        elif (started := time.monotonic()) >= service.next_look:
            service.is_done = self.is_well(service.name)
            if service.is_done and service.name == "postgres":
                self._databases()
            # Some checks cost seconds of the processor that the services need.
            service.next_look = time.monotonic() + 0.2 + 2 * (time.monotonic() - started)

    def _new_cluster(self, command: list[str]) -> tuple[list[str], dict[str, Any]]:
        """What the image's entry point does: a new cluster with the file's password, run by an unprivileged user."""
        folder, data = self.folder / "postgres", self.folder / "volumes" / "postgres"
        # It refuses to be root.
        user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        options: dict[str, Any] = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
        password = folder / "password"
        password.write_text(self.secret("postgres_password"))
        for path in (folder, folder / "tmp", data, password):
            if user:
                os.chown(path, user.pw_uid, user.pw_gid)
        environment = self.environment("postgres")
        new = ["initdb", "-D", str(data), "-U", "postgres", "-A", "scram-sha-256", "--auth-local=trust", "--no-sync"]
        new += [f"--pwfile={password}", *shlex.split(environment["POSTGRES_INITDB_ARGS"])]
        new[0] = str(self.programs / new[0])
        subprocess.run(new, env=environment, cwd=folder, capture_output=True, check=True, **options)
        places = ["-D", str(data), "-k", str(folder), "-p", str(self.ports[5432]), "-c", f"listen_addresses={LOOPBACK}"]
        return [*command, *places, "-c", "fsync=off"], options

    def _databases(self) -> None:
        """What the image's entry point does with the files of its mounted folder."""
        folder = self.folder / "postgres"
        places = {"PGHOST": str(folder), "PGPORT": str(self.ports[5432]), "SECRETS": str(folder / "secrets")}
        for script in sorted((ROOT / "deploy/postgres").glob("*.sh")):
            subprocess.run([script], env=self.environment("postgres") | places, capture_output=True, check=True)


@contextmanager
def composed(folder: Path, programs: Path) -> Iterator[Composition]:
    """The composition, with secrets and without any process; all that were started are ended.

    Args:
        folder: An empty folder that others may enter: PostgreSQL runs as another user than root.
        programs: Folder of PostgreSQL's programs.
    """
    found = Composition(folder, programs)
    *_, said = make(found.made, user="ana")
    found.password = said.split("password ")[1].partition(",")[0]
    try:
        yield found
    finally:
        found.stop()
