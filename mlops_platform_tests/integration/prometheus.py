"""A real Prometheus, Alertmanager and Pushgateway for tests, on loopback and free ports, and who they tell.

Each runs in a folder of its own with the configuration in deploy/, its addresses replaced and its waiting times cut.
Does not belong here: tests. Where a program is missing the tests that need it are skipped: Debian's packages
prometheus, prometheus-alertmanager and prometheus-pushgateway bring them.
"""

from __future__ import annotations

import email
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml
from aiosmtpd.controller import Controller

from mlops_platform_tests.ports import free_port

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PATIENCE_SECONDS = 60.0
Found = TypeVar("Found")


def program(*names: str) -> str:
    """Path of the first of these programs that is there; skips the test where none is."""
    for name in names:
        if found := shutil.which(name):
            return found
    pytest.skip(f"no {names[0]} on this machine (Debian: apt-get install {names[-1]})")


def wait_for(condition: Callable[[], Found], what: str) -> Found:
    """The condition's first true value; fails after the deadline."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            if found := condition():
                return found
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            pytest.fail(f"waited in vain for {what}")
        time.sleep(0.1)  # between two looks at the condition, not in place of one


@contextmanager
def started(command: Sequence[str], folder: Path, name: str, **options: Any) -> Iterator[Path]:
    """Runs a program until the end of the block; yields the file with its output, which a failure shows."""
    output = folder / f"{name}.log"
    with output.open("wb") as file:
        process = subprocess.Popen(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, **options)
        try:
            yield output
            assert process.poll() is None, f"{name} ended by itself:\n{output.read_text()}"
        finally:
            process.terminate()
            process.wait(30)


@dataclass
class Prometheus:
    """A running Prometheus."""

    http: httpx.Client

    def ask(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of an expression now."""
        answer = self.http.get("/api/v1/query", params={"query": expression})
        assert answer.status_code == 200, answer.text
        return [(each["metric"], float(each["value"][1])) for each in answer.json()["data"]["result"]]

    def values_of(self, label: str, metric: str) -> list[str]:
        """Values of a label among a metric's series, as Grafana's label_values() finds them."""
        found = self.http.get(f"/api/v1/label/{label}/values", params={"match[]": metric}).json()["data"]
        return [str(value) for value in found]

    def evaluated(self, alert: str) -> str:
        """When an alert's rule was last evaluated."""
        groups = self.http.get("/api/v1/rules").json()["data"]["groups"]
        return next(str(r["lastEvaluation"]) for group in groups for r in group["rules"] if r["name"] == alert)


@contextmanager
def prometheus(folder: Path, targets: dict[str, int]) -> Iterator[Prometheus]:
    """Prometheus with deploy/'s configuration, looking each second at these jobs' ports; alerts wait for nothing."""
    command = program("prometheus")
    shutil.copytree(DEPLOY / "prometheus", folder / "configuration")
    path = folder / "configuration/prometheus.yml"
    configuration = yaml.safe_load(path.read_text())
    configuration["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    path.write_text(yaml.safe_dump(configuration))
    for name, port in targets.items():
        places = folder / f"configuration/targets/local/{name}.yml"
        places.write_text(yaml.safe_dump([{"targets": [f"127.0.0.1:{port}"]}]))
    rules = yaml.safe_load((folder / "configuration/rules.yml").read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        rule.pop("for", None)
    (folder / "configuration/rules.yml").write_text(yaml.safe_dump(rules))
    port = free_port()
    options = (
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    with started([command, *options], folder, "prometheus"), httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
        wait_for(lambda: http.get("/-/ready").status_code == 200, "Prometheus")
        yield Prometheus(http)


@contextmanager
def alertmanager(folder: Path, mail_port: int, webhook: str) -> Iterator[int]:
    """Alertmanager with deploy/'s configuration, telling a mail server and a web hook at once; yields its port."""
    command = program("prometheus-alertmanager", "alertmanager", "prometheus-alertmanager")
    configuration = yaml.safe_load((DEPLOY / "alertmanager/alertmanager.yml").read_text())
    configuration["global"]["smtp_smarthost"] = f"127.0.0.1:{mail_port}"
    configuration["route"] |= {"group_wait": "0s", "group_interval": "1s"}
    configuration["receivers"][0]["webhook_configs"][0]["url"] = webhook
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(configuration))
    port = free_port()
    listen = (f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=")
    options = (f"--config.file={path}", f"--storage.path={folder / 'alertmanager'}", *listen)
    with started([command, *options], folder, "alertmanager"):
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{port}/-/ready").status_code == 200, "Alertmanager")
        yield port


@dataclass
class Told:
    """What a mail server and a web hook were told, in order."""

    mails: list[Any] = field(default_factory=list)
    posts: list[dict[str, Any]] = field(default_factory=list)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append(email.message_from_bytes(envelope.content, policy=default))
        return "250 OK"

    def mails_about(self, alert: str) -> list[str]:
        """Status of each mail about an alert: firing or resolved."""
        subjects = [str(mail["Subject"]) for mail in self.mails]
        return [subject[1 : subject.index("]")] for subject in subjects if f"] {alert} " in subject]

    def posts_about(self, alert: str) -> list[str]:
        """Status of each post about an alert."""
        return [str(post["status"]) for post in self.posts if post["commonLabels"]["alertname"] == alert]


@contextmanager
def listening() -> Iterator[tuple[Told, int, str]]:
    """A real SMTP server and a real HTTP endpoint; yields what they hear, the port and the address."""
    told = Told()

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told.posts.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    hook = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=hook.serve_forever)
    thread.start()
    mail = Controller(told, hostname="127.0.0.1", port=free_port())
    mail.start()
    try:
        yield told, int(mail.port), f"http://127.0.0.1:{hook.server_port}/alerts"
    finally:
        mail.stop()
        hook.shutdown()
        hook.server_close()
        thread.join()
