"""What a container of docker-compose.yml would find, put into places of this machine.

A process sees what its container would: the environment of image and file, its secrets, volumes and mounted files. Only
places change: a path of the container becomes one of a temporary folder, a service's name 127.0.0.1, a port a free one,
in commands, variables and mounted files alike. Does not belong here: starting anything (`composed.py`).
"""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from tools.fetched_file import FetchError
from tools.maven import fetched

ROOT = Path(__file__).resolve().parents[2]
LOOPBACK = "127.0.0.1"
# Of every service, and the proxy's own check and TLS.
PORTS = (3000, 3001, 4000, 5000, 5432, 8000, 8079, 8080, 8443, 8974, 9000, 9090, 9093, 9101)
# What starts an image of others when the file gives arguments only.
ENTRYPOINTS = {"prometheus": ["prometheus"], "alertmanager": ["prometheus-alertmanager"]}
AIRFLOW = ROOT / ".venv-airflow" / "bin"
NO_GRAFANA = "Grafana's server is in no package registry; its dashboards are proved panel by panel elsewhere"


def free_ports() -> dict[int, int]:
    """For each port one that nobody listens on, below those that connections take: it is used minutes later."""
    found: list[int] = []
    for port in random.SystemRandom().sample(range(15_000, 32_000), 50 * len(PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind((LOOPBACK, port))
            found.append(port)
    return dict(zip(PORTS, found, strict=False))


@dataclass
class Places:
    """The file's services below one folder."""

    folder: Path
    programs: Path
    ports: dict[int, int] = field(default_factory=free_ports)
    # Another container, another address: here the proxy needs ports of its own.
    fronts: dict[int, int] = field(default_factory=free_ports)

    @cached_property
    def asked(self) -> dict[str, dict[str, Any]]:
        """The services as docker-compose.yml describes them."""
        found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
        return found

    @property
    def made(self) -> Path:
        """What `make secrets` has made."""
        return self.folder / "made"

    def url(self, port: int, host: str = "localhost") -> str:
        """Where the proxy answers for one of the ports it publishes."""
        return f"http://{host}:{self.fronts[port]}"

    def secret(self, name: str) -> str:
        """A secret as its services see it."""
        return self._placed((self.made / name).read_text(), self.ports).strip()

    def missing(self, name: str) -> str | None:
        """Why a service can't run here; None if it can."""
        if name == "grafana":
            return NO_GRAFANA
        if name.startswith("airflow-"):
            return None if (AIRFLOW / "airflow").exists() else "there is no Airflow here; `make test-airflow` gets it"
        try:
            program = self.command(name)[0]
        except FetchError as error:
            return str(error)
        return None if shutil.which(program, path=self.path(name)) else f"{program} is not installed here"

    def command(self, name: str) -> list[str]:
        """A service's command line."""
        return [self.placed(name, each) for each in (*ENTRYPOINTS.get(name, ()), *self.asked[name]["command"])]

    def environment(self, name: str) -> dict[str, str]:
        """A service's environment: its image's, and the file's over it; nothing of ours but the PATH."""
        asked = self.asked[name]
        found = image_environment(asked["build"]["target"]) if "build" in asked else {}
        found |= asked.get("environment", {})
        return {"PATH": self.path(name)} | {key: self.placed(name, value) for key, value in found.items()}

    def path(self, name: str) -> str:
        """Where a service finds its programs."""
        own = AIRFLOW if name.startswith("airflow-") else Path(sys.executable).parent
        return os.pathsep.join(map(str, (own, self.programs, os.environ["PATH"], "/usr/sbin")))

    def working_folder(self, name: str) -> Path:
        """Where a service's command starts."""
        return self.folder / name / ("app" if "build" in self.asked[name] else "")

    def placed(self, name: str, text: str) -> str:
        """A text of a service's container, with the places of this machine."""
        text = re.sub(r"\$\{(\w+):-([^}]*)\}", r"\2", text).replace("$$", "$")
        mounts = self.mounts(name)
        # All at once: a path of this machine may look like one of the container.
        insides = "|".join(sorted(map(re.escape, mounts), key=len, reverse=True))
        text = re.sub(rf"(?<![\w./-])({insides})(?![\w.-])", lambda found: str(mounts[found[1]]), text)
        return self._placed(text, self.fronts if name == "proxy" else self.ports)

    def _placed(self, text: str, own: dict[int, int]) -> str:
        def placed(found: re.Match[str]) -> str:
            port = int(found["port"])
            return f"{LOOPBACK}:{self.ports[port]}" if found["name"] else str(own[port])

        names = "|".join(sorted(self.asked, key=len, reverse=True))
        text = re.sub(rf"(?<=host: )({names})\b", LOOPBACK, text.replace("0.0.0.0", LOOPBACK))  # noqa: S104
        ports = "|".join(map(str, PORTS))
        return re.sub(rf"(?<![\w.-])(?:(?P<name>{names}):)?(?P<port>{ports})(?!\w|\.\d)", placed, text)

    def mounts(self, name: str) -> dict[str, Path]:
        """The places of a container that are others here."""
        asked, folder = self.asked[name], self.folder / name
        found = {"/run/secrets": folder / "secrets", "/tmp": folder / "tmp"}  # noqa: S108
        for volume in asked.get("volumes", []):
            source, inside, *_ = volume.split(":")
            is_file = source.startswith("./")
            found[inside] = folder / "files" / inside.strip("/") if is_file else self.folder / "volumes" / source
        if "build" in asked:
            found["/app"] = folder / "app"
        if name == "s3":
            found |= {"/opt/s3proxy.jar": fetched("s3proxy"), "/opt/s3proxy.conf": folder / "s3proxy.conf"}
        if name.startswith("airflow-"):
            found["/opt/dags"] = self.folder / "dags"
        return found

    def prepare(self, name: str) -> None:
        """Makes what the container would find: folders, mounted files, secrets."""
        asked, mounts = self.asked[name], self.mounts(name)
        for path in mounts.values():
            if not path.suffix:
                path.mkdir(parents=True, exist_ok=True)
        for volume in sorted(asked.get("volumes", [])):
            source, inside, *_ = volume.split(":")
            if source.startswith("./"):
                self._copy(name, ROOT / source, mounts[inside])
        for secret in asked.get("secrets", []):
            (mounts["/run/secrets"] / secret).write_text(self.secret(secret))
        if "build" in asked:
            self._copy(name, ROOT / "deploy/docker/workspace.yaml", mounts["/app"] / "workspace.yaml")
        if name == "s3":
            self._copy(name, ROOT / "deploy/docker/s3proxy.conf", mounts["/opt/s3proxy.conf"])

    def _copy(self, name: str, source: Path, target: Path) -> None:
        if source.is_dir():
            target.mkdir(parents=True, exist_ok=True)
            for each in source.iterdir():
                self._copy(name, each, target / each.name)
            return
        text = self.placed(name, source.read_text())
        # In its container nginx listens on every interface.
        target.write_text(re.sub(r"(?<=listen )(?=\d+[ ;])", f"{LOOPBACK}:", text) if name == "proxy" else text)


def image_environment(target: str) -> dict[str, str]:
    """The variables of a target of the Dockerfile and of those below it."""
    text = (ROOT / "deploy/docker/Dockerfile").read_text()
    pattern = re.compile(r"^FROM (\S+) AS (\S+)\n(.*?)(?=^FROM |\Z)", re.DOTALL | re.MULTILINE)
    stages = {stage: (below, body) for below, stage, body in pattern.findall(text)}
    found: dict[str, str] = {}
    while target in stages:
        target, body = stages[target]
        for line in re.findall(r"^ENV ((?:.*\\\n)*.*)$", body, re.MULTILINE):
            pairs = (pair.partition("=") for pair in shlex.split(line.replace("\\\n", " ")))
            found = {key: value for key, _, value in pairs if key != "PATH"} | found
    return found
