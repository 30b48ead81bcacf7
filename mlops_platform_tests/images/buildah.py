"""Images without a container engine: buildah builds them and runs commands in them, in a root of their own.

What the Dockerfile starts from is not fetched from a registry of images: one Debian 12 with its Python and Java stands
in for all of them. Walls between containers, limits and read-only roots are not what is tried here. Does not belong
here: what the images hold.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "deploy" / "docker" / "Dockerfile"
SUITE = "bookworm"
_PACKAGES = "python3,python3-venv,python-is-python3,ca-certificates,openjdk-17-jre-headless,maven"
_BUILD_SECONDS = 1_200.0
# This machine's own, Java's among them: a registry may stand behind a certificate that only it knows.
_CERTIFICATES = Path("/etc/ssl/certs")


@dataclass(frozen=True)
class Images:
    """Buildah over a folder of its own.

    Args:
        folder: Where images and containers are kept.
    """

    folder: Path

    def build(self, target: str) -> str:
        """Builds a target of the Dockerfile; returns the image's name."""
        trusted = _CERTIFICATES / "ca-certificates.crt"
        self.call(
            "build", "--pull-never", "--isolation", "chroot", "--layers",
            "--volume", f"{_CERTIFICATES}:{_CERTIFICATES}:ro",
            "--env", f"PIP_CERT={trusted}", "--env", f"SSL_CERT_FILE={trusted}",
            "--file", str(DOCKERFILE), "--target", target, "--tag", f"mlops-{target}", str(ROOT),
        )  # fmt: skip
        return f"localhost/mlops-{target}"

    def container(self, image: str) -> str:
        """A new container of an image; returns its name."""
        return self.call("from", "--pull-never", image).strip()

    def run(self, container: str, *command: str, home: Path | None = None) -> str:
        """What a command prints in a container, as the image's user; with a folder of this machine as its home."""
        return self.call(*_run(container, command, home))

    @contextmanager
    def running(self, container: str, *command: str, home: Path, log: Path) -> Iterator[None]:
        """A command that goes on until the context ends."""
        with log.open("wb") as output:
            process = psutil.Popen(
                ("buildah", *_run(container, command, home)),
                env=self._environment(), stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            yield
        finally:
            # What runs in the container has sessions of its own.
            started = [process, *process.children(recursive=True)]
            for each in started:
                with suppress(psutil.NoSuchProcess):
                    each.terminate()
            for each in psutil.wait_procs(started, timeout=20)[1]:
                each.kill()
            process.wait()

    def call(self, *arguments: str) -> str:
        """A command of buildah; fails with the end of what it said."""
        done = subprocess.run(
            ("buildah", *arguments), env=self._environment(), capture_output=True, text=True, timeout=_BUILD_SECONDS,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"buildah {arguments[0]}: {done.stdout[-2_000:]}{done.stderr[-2_000:]}"
        return done.stdout

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "CONTAINERS_STORAGE_CONF": str(self.folder / "storage.conf")}


def _run(container: str, command: tuple[str, ...], home: Path | None) -> tuple[str, ...]:
    # Not at /data: a folder given for a VOLUME of the image is left aside by buildah.
    given = () if home is None else ("--volume", f"{home}:/mnt/home")
    inside = () if home is None else ("env", "--unset=DAGSTER_HOME", "MLOPS_HOME=/mnt/home")
    return ("run", "--isolation", "chroot", *given, container, "--", *inside, *command)


@contextmanager
def images(folder: Path) -> Iterator[Images]:
    """Buildah with what the Dockerfile starts from; skips where it can't be had. All images are removed at the end."""
    if os.getuid() != 0:
        pytest.skip("buildah changes roots here, which only root may")
    for program in ("buildah", "debootstrap"):
        if shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin") is None:
            pytest.skip(f"there is no {program} here; Debian's package has that name")
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "overlay"\nrunroot = "{folder / "run"}"\ngraphroot = "{folder / "storage"}"\n'
    )
    found = Images(folder)
    _make_bases(found, folder / "debian")
    try:
        yield found
    finally:
        found.call("rm", "--all")
        found.call("rmi", "--all", "--force")


def _make_bases(found: Images, root: Path) -> None:
    command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", SUITE, str(root), *_mirror()]
    path = f"{os.environ['PATH']}:/usr/sbin"
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    if done.returncode:
        pytest.skip(f"Debian can't be had: {done.stdout[-1_000:]}{done.stderr[-1_000:]}")
    container = found.container("scratch")
    found.call("add", "--quiet", container, str(root), "/")
    shutil.rmtree(root)
    stages = set(re.findall(r"^FROM \S+ AS (\S+)", DOCKERFILE.read_text(), re.MULTILINE))
    for name in sorted(set(re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)) - stages):
        found.call("commit", "--quiet", container, f"docker.io/library/{name}")
    found.call("rm", container)


def _mirror() -> list[str]:
    """Where this machine's own packages come from, if they are of the same Debian."""
    command = ("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line.split()[1] for line in done.stdout.splitlines() if line.split()[0] == SUITE][:1]
