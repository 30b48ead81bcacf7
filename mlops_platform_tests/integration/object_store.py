"""A real S3-protocol server for tests: S3Proxy over a folder, on loopback, on a free port, with a key that it checks.

Belongs here: starting, killing and stopping the server. Does not belong here: tests. What it has acknowledged is in the
folder, and there again after a restart. Where it can't be had the tests that need it are skipped and say why; moto's
server (`buckets.py`) is enough where nothing but the protocol matters.
"""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlops_platform_tests.integration.buckets import Bucket
from mlops_platform_tests.ports import free_port
from tools.fetched_file import FetchError
from tools.maven import fetched

START_SECONDS = 60.0


@dataclass
class ObjectStore:
    """An S3Proxy; its data outlives its process."""

    jar: Path
    folder: Path
    port: int
    key: str = field(default_factory=lambda: f"key-{secrets.token_hex(4)}")
    secret: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def bucket(self) -> Bucket:
        """A new bucket."""
        found = Bucket.fresh(self.endpoint, self.key, self.secret)
        found.create()
        return found

    def start(self) -> None:
        """Starts it and waits until it answers.

        Raises:
            RuntimeError: It ended, or did not answer in time.
        """
        data, properties = self.folder / "data", self.folder / "s3proxy.conf"
        data.mkdir(parents=True, exist_ok=True)
        properties.write_text(
            f"s3proxy.endpoint={self.endpoint}\ns3proxy.authorization=aws-v2-or-v4\n"
            f"s3proxy.identity={self.key}\ns3proxy.credential={self.secret}\n"
            f"jclouds.provider=filesystem-nio2\njclouds.filesystem.basedir={data}\n"
            "jclouds.identity=unused\njclouds.credential=unused\n"
        )
        properties.chmod(0o600)
        command = ("java", "-Xmx256m", "-XX:+UseSerialGC", "-jar", str(self.jar), "--properties", str(properties))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not _answers(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"S3Proxy did not start: {(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """SIGKILL: nothing is closed or flushed."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """Ends it."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=START_SECONDS)


@contextmanager
def running_store(folder: Path) -> Iterator[ObjectStore]:
    """A running server over a folder of its own; the test is skipped where it can't be had."""
    if shutil.which("java") is None:
        pytest.skip("there is no Java, which S3Proxy runs on")
    try:
        jar = fetched("s3proxy")
    except FetchError as error:
        pytest.skip(str(error))
    port = free_port()
    store = ObjectStore(jar, folder, port)
    store.start()
    try:
        yield store
    finally:
        store.stop()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
