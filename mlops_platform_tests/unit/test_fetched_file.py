"""A fetched file is fetched once, whole, and by one process at a time."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from tools import maven
from tools.fetched_file import FetchError, kept
from tools.setup_env import ROOT

CONTENT = b"a program"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
# Who fetches is not done before all have come.
CALLER = f"""
import sys, time
from pathlib import Path
from tools.fetched_file import kept

folder = Path(sys.argv[1])

def fetch(draft):
    with (folder / "fetches").open("a") as log:
        log.write("fetched\\n")
    until = time.monotonic() + 60
    while len(list(folder.glob("*.came"))) < 3 and time.monotonic() < until:
        time.sleep(0.01)
    (draft / "any name").write_bytes({CONTENT!r})
    return draft / "any name"

(folder / f"{{sys.argv[2]}}.came").touch()
print(kept(folder / "kept" / "program", {SHA256!r}, fetch).read_bytes() == {CONTENT!r})
"""


def fetch(draft: Path) -> Path:
    (draft / "any name").write_bytes(CONTENT)
    return draft / "any name"


def fetch_none(draft: Path) -> Path:
    (draft / "half").write_bytes(CONTENT[:4])
    raise FetchError("no network")


def test_it_is_fetched_once_whoever_asks_at_once(tmp_path: Path) -> None:
    callers = [
        subprocess.Popen((sys.executable, "-c", CALLER, tmp_path, str(number)), stdout=subprocess.PIPE, cwd=ROOT)
        for number in range(3)
    ]
    assert [caller.communicate(timeout=120)[0] for caller in callers] == [b"True\n"] * 3
    assert (tmp_path / "fetches").read_text() == "fetched\n"
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {"program", ".lock"}


def test_of_a_fetch_that_failed_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="no network"):
        kept(tmp_path / "program", SHA256, fetch_none)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert kept(tmp_path / "program", SHA256, fetch).read_bytes() == CONTENT


def test_another_file_than_the_known_one_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match=f"program is not the file it should be: its sha256 is {SHA256}"):
        kept(tmp_path / "program", "0" * 64, fetch)
    assert not (tmp_path / "program").exists()


def test_without_maven_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maven, "FOLDER", tmp_path)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FetchError, match="there is no Maven here"):
        maven.fetched("s3proxy")
