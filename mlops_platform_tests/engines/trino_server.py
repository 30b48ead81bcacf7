"""A real Trino for tests, Athena's engine: one process on loopback, over the same Iceberg tables as the platform's.

It is put together from Trino's server core and its Iceberg plugin, which brings PostgreSQL's driver along, and reads
PyIceberg's SQL catalog as a JDBC catalog. Belongs here: finding Java, assembling, starting and stopping it. Does not
belong here: tests. Where it can't be had the tests that need it are skipped and say why.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlops_platform_tests.integration.buckets import REGION, Bucket
from mlops_platform_tests.integration.postgres import Server
from mlops_platform_tests.ports import free_port
from tools.fetched_file import FetchError
from tools.maven import FOLDER, fetched

SMALLEST_JAVA = 24
START_SECONDS = 300.0
CATALOG = "iceberg"
# As Trino's own deployment guide has them, but for the heap.
_JVM = (
    "-XX:+UseG1GC",
    "-XX:G1HeapRegionSize=16M",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:-OmitStackTraceInFastThrow",
    "-XX:PerMethodRecompilationCutoff=10000",
    "-XX:PerBytecodeRecompilationCutoff=10000",
    "-Djdk.attach.allowAttachSelf=true",
    "-Djdk.nio.maxCachedBufferSize=2000000",
    "-Dfile.encoding=UTF-8",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)


@dataclass
class Trino:
    """A Trino whose catalog `iceberg` is a home's: its tables are made by others."""

    java: Path
    program: Path
    folder: Path
    port: int
    heap_mb: int
    is_optimizing: bool
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What MLOPS_TRINO_URL is."""
        return f"trino://tests@127.0.0.1:{self.port}/{CATALOG}"

    def configure(self, catalog: dict[str, str]) -> None:
        """Writes its configuration, with the catalog's properties."""
        server = {
            "node.environment": "tests",
            "node.bind-ip": "127.0.0.1",
            "node.internal-address": "127.0.0.1",
            "coordinator": "true",
            "node-scheduler.include-coordinator": "true",
            "http-server.http.port": str(self.port),
            "discovery.uri": f"http://127.0.0.1:{self.port}",
            "query.max-memory-per-node": f"{self.heap_mb * 6 // 10}MB",
            "memory.heap-headroom-per-node": f"{self.heap_mb * 3 // 10}MB",
            "catalog.management": "static",
            "catalog.config-dir": str(self.folder / "etc" / "catalog"),
            "plugin.dir": str(self.program / "plugin"),
            "web-ui.enabled": "false",
        }
        quiet = {"io.trino": "WARN", "io.airlift": "WARN"}
        for name, properties in {"config": server, "log": quiet, f"catalog/{CATALOG}": catalog}.items():
            path = self.folder / "etc" / f"{name}.properties"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()), encoding="utf-8")

    def start(self) -> None:
        """Starts it and waits until it takes queries.

        Raises:
            RuntimeError: It ended, or did not answer in time.
        """
        etc = self.folder / "etc"
        files = (f"-Dconfig={etc}/config.properties", f"-Dlog.levels-file={etc}/log.properties")
        main = ("-Dlog.enable-console=true", *files, "-cp", f"{self.program / 'lib'}/*", "io.trino.server.TrinoServer")
        tiers = () if self.is_optimizing else ("-XX:TieredStopAtLevel=1",)
        command = (str(self.java), f"-Xmx{self.heap_mb}m", *_JVM, *tiers, *main)
        environment = {**os.environ, **self.environment}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.program,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        deadline = time.monotonic() + START_SECONDS
        while not _takes_queries(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"Trino did not start: {(self.folder / 'log').read_text()[-4000:]}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Ends it at once: it keeps nothing that anybody needs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextmanager
def running_trino(
    folder: Path, database: Server, name: str, bucket: Bucket, *, heap_mb: int = 1024, is_optimizing: bool = False
) -> Iterator[Trino]:
    """A running Trino over the catalog in a database and the warehouse in a bucket.

    Args:
        folder: A folder of its own.
        database: The PostgreSQL.
        name: The database in it that holds the catalog; its tables must be there.
        bucket: The warehouse's.
        heap_mb: Java's heap.
        is_optimizing: Whether Java compiles what runs often a second time, better: 8 small queries and the start then
            take 58 CPU seconds instead of 37, many rows take less.
    """
    java, program = find_java(), assembled()
    port = free_port()
    secrets = {"TRINO_S3_KEY": bucket.key, "TRINO_S3_SECRET": bucket.secret}
    trino = Trino(java, program, folder, port, heap_mb, is_optimizing, secrets)
    trino.configure(
        {
            "connector.name": "iceberg",
            "iceberg.catalog.type": "jdbc",
            "iceberg.jdbc-catalog.catalog-name": "mlops",
            "iceberg.jdbc-catalog.driver-class": "org.postgresql.Driver",
            "iceberg.jdbc-catalog.connection-url": f"jdbc:postgresql://127.0.0.1:{database.port}/{name}",
            "iceberg.jdbc-catalog.connection-user": "postgres",
            "iceberg.jdbc-catalog.default-warehouse-dir": bucket.url,
            "fs.native-s3.enabled": "true",
            "s3.endpoint": bucket.endpoint,
            "s3.region": REGION,
            "s3.path-style-access": "true",
            "s3.aws-access-key": "${ENV:TRINO_S3_KEY}",
            "s3.aws-secret-key": "${ENV:TRINO_S3_SECRET}",
        }
    )
    trino.start()
    try:
        yield trino
    finally:
        trino.stop()


def find_java() -> Path:
    """Java's program, new enough for Trino: of JAVA_HOME, the PATH, or where Debian puts them.

    The test is skipped where there is none.
    """
    homes = [Path(os.environ["JAVA_HOME"])] if os.environ.get("JAVA_HOME") else []
    found = [home / "bin" / "java" for home in (*homes, *sorted(Path("/usr/lib/jvm").glob("*")))]
    found += [Path(path) for path in [shutil.which("java")] if path]
    for java in found:
        if java.is_file() and _java_version(java) >= SMALLEST_JAVA:
            return java
    pytest.skip(f"there is no Java {SMALLEST_JAVA} or newer, which Trino runs on; set JAVA_HOME to one")


def _java_version(java: Path) -> int:
    said = subprocess.run((java, "-version"), capture_output=True, text=True, check=False, timeout=60).stderr
    number = re.search(r'version "(\d+)', said)
    return int(number[1]) if number else 0


def assembled() -> Path:
    """The folder of a Trino with its Iceberg plugin, put together on first use; skips where it can't be fetched."""
    try:
        core, plugin = fetched("trino-server-core"), fetched("trino-iceberg")
    except FetchError as error:
        pytest.skip(str(error))
    made = FOLDER / core.name.removesuffix(".tar.gz")
    if not made.is_dir():
        # Another worker may be at it: each unpacks for itself, and the first to be done wins.
        draft = FOLDER / f".{made.name}.{os.getpid()}.tmp"
        shutil.unpack_archive(core, draft, filter="data")
        with zipfile.ZipFile(plugin) as archive:
            # Not `unpack_archive`: it leaves out names with two dots, as Maven's shortened ones have.
            for name in archive.namelist():
                archive.extract(name, draft)
        (server,) = draft.glob("trino-server-core-*")
        (unpacked,) = draft.glob("trino-iceberg-*")
        unpacked.rename(server / "plugin" / "iceberg")
        try:
            server.rename(made)
        except OSError:
            if not made.is_dir():
                raise
        shutil.rmtree(draft)
    return made


def _takes_queries(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/info", timeout=2) as answer:
            return b'"starting":false' in answer.read()
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
