"""A file that is fetched on first use and kept, whose sha256 is known beforehand.

Does not belong here: who fetches it and from where (`tools.maven`, `tools.docker_compose`).
"""

from __future__ import annotations

import fcntl
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path


class FetchError(Exception):
    """A file can't be had; the message says why."""


def kept(path: Path, sha256: str, fetch: Callable[[Path], Path]) -> Path:
    """The file at `path`, fetched where it isn't there; other processes that want it wait meanwhile.

    Args:
        path: Where it is kept. There is never half a file.
        sha256: In hexadecimal digits.
        fetch: Puts the file into the empty folder it is given, and says where.

    Raises:
        FetchError: It can't be fetched, or is another file than the one known.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (path.parent / ".lock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not path.is_file():
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as draft:
                fetch(Path(draft)).replace(path)
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            path.unlink()
            raise FetchError(f"{path.name} is not the file it should be: its sha256 is {found}, expected {sha256}")
    return path
