"""Programs for the JVM from Maven Central, at the versions and hashes of `tools/maven.lock`, kept in `.maven`.

Maven itself fetches them, so that its settings say from where. Does not belong here: starting them.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from tools.setup_env import ROOT

LOCK = ROOT / "tools" / "maven.lock"
FOLDER = ROOT / ".maven"
# The plugin's own version is part of what is fetched, so it is pinned too.
_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
_FETCH_SECONDS = 300


class MavenError(Exception):
    """An artifact can't be had; the message says why."""


def locked() -> dict[str, str]:
    """The sha256 of each artifact, by its coordinates."""
    lines = (line for line in LOCK.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split() for line in lines)


def fetched(name: str) -> Path:
    """An artifact's file; it is fetched on first use.

    Args:
        name: The artifact, such as `s3proxy`; it stands in the lock once.

    Raises:
        MavenError: There is no Maven, it can't fetch the artifact, or the file is another than the lock's.
    """
    coordinates, wanted = next(
        (found, digest) for found, digest in locked().items() if found.split(":")[1].startswith(name)
    )
    group, artifact, version, packaging, *classifier = coordinates.split(":")
    path = FOLDER / "-".join([artifact, version, *classifier])
    path = path.with_name(f"{path.name}.{packaging}")
    if not path.is_file():
        _copy(coordinates, path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wanted:
        path.unlink()
        raise MavenError(f"{group}:{artifact} is not the file of {LOCK.name}: its sha256 is {found}")
    return path


def _copy(coordinates: str, path: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise MavenError("there is no Maven here; Debian's package is `maven`")
    # Maven's own name of the file, and no half file under ours.
    draft = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    command = (maven, "--quiet", "--batch-mode", _GOAL, f"-Dartifact={coordinates}", f"-DoutputDirectory={draft}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False, cwd=ROOT)
        if done.returncode:
            raise MavenError(f"Maven can't fetch {coordinates}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        (file,) = draft.iterdir()
        file.replace(path)
    except subprocess.TimeoutExpired as error:
        raise MavenError(f"Maven did not fetch {coordinates} within {_FETCH_SECONDS} s") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def main(names: list[str]) -> int:
    """Fetch the artifacts with these names."""
    try:
        for name in names:
            print(fetched(name).relative_to(ROOT))
    except MavenError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
