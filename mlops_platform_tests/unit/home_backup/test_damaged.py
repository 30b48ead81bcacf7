"""An archive that is not what was written is refused with one message, and leaves nothing behind."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlops_platform.errors import InputError, PlatformError, StorageError
from mlops_platform.home_backup import restore as restoring
from mlops_platform.home_backup.backup import back_up
from mlops_platform.home_backup.restore import restore
from mlops_platform.settings import load_settings
from mlops_platform_tests.unit.home_backup.homes import AT, fill, history, quiet, write
from mlops_platform_tests.unit.storage.writers import PATIENCE_SECONDS, start

NO_FILES = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    fill(load_settings(home=folder / "home"))
    return back_up(load_settings(home=folder / "home"), folder / "a.tar", created_at=AT, say=quiet).archive


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive in which most bytes mean something."""
    folder = tmp_path_factory.mktemp("small")
    write(folder / "home/mlops.toml", "history_start = 2024-07-01\n")
    write(folder / "home/references/a.json", "{}")
    return back_up(load_settings(home=folder / "home"), folder / "a.tar.gz", created_at=AT, say=quiet).archive


def members(archive: Path) -> Members:
    with tarfile.open(archive) as tar:
        files = [(member, tar.extractfile(member)) for member in tar]
        return [(member, file.read() if file else b"") for member, file in files]


def changed(archive: Path, target: Path, change: Callable[[Members, dict[str, Any]], None]) -> Path:
    """The archive with its members or its list changed; the list's own checksum is right again."""
    found = members(archive)
    listed = json.loads(found[0][1])
    change(found, listed)
    text = json.dumps(listed).encode()
    found[0] = (found[0][0], text)
    found[1] = (found[1][0], hashlib.sha256(text).hexdigest().encode())
    with tarfile.open(target, "w") as tar:
        for member, content in found:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return target


def refused(archive: Path, folder: Path, *words: str, error: type[PlatformError] = InputError) -> None:
    """Refused with these words, and nothing is left; what is outside was not touched."""
    before = sorted(folder.rglob("*"))
    with pytest.raises(error) as raised:
        restore(load_settings(home=folder / "new" / "home"), archive, say=quiet)
    assert all(word in str(raised.value) for word in words), raised.value
    assert sorted(folder.rglob("*")) == before


def at(found: Members, ending: str) -> int:
    return next(index for index, (member, _) in enumerate(found) if member.name.endswith(ending))


class TestAFileWasTamperedWith:
    @pytest.mark.parametrize("ending", [".parquet", ".avro", ".metadata.json", "catalog.db", "mlflow.db", "hmac.key"])
    def test_one_bit(self, archive: Path, tmp_path: Path, ending: str) -> None:
        def flip(found: Members, _listed: dict[str, Any]) -> None:
            index = at(found, ending)
            member, content = found[index]
            found[index] = (member, content[:-1] + bytes([content[-1] ^ 1]))

        refused(changed(archive, tmp_path / "b.tar", flip), tmp_path, "was changed", "nothing was restored", ending)

    @pytest.mark.parametrize("more", [b"x", None])
    def test_its_length(self, archive: Path, tmp_path: Path, more: bytes | None) -> None:
        def resize(found: Members, _listed: dict[str, Any]) -> None:
            member, content = found[5]
            found[5] = (member, content + more if more else content[:-1])

        refused(changed(archive, tmp_path / "b.tar", resize), tmp_path, "was changed")

    def test_it_is_missing(self, archive: Path, tmp_path: Path) -> None:
        refused(
            changed(archive, tmp_path / "b.tar", lambda found, _: found.pop(7) and None), tmp_path, "where its list"
        )
        refused(changed(archive, tmp_path / "b.tar", lambda found, _: found.pop() and None), tmp_path, "is missing")

    def test_a_table_lacks_a_file(self, archive: Path, tmp_path: Path) -> None:
        def drop(found: Members, listed: dict[str, Any]) -> None:
            member, _ = found.pop(at(found, ".parquet"))
            del listed["files"][member.name.removeprefix("home/")]

        def drop_data(found: Members, listed: dict[str, Any]) -> None:
            del found[at(found, "export.parquet")], listed["files"]["warehouse/ml/export.parquet"]
            drop(found, listed)

        refused(changed(archive, tmp_path / "b.tar", drop_data), tmp_path, "is missing, but its", error=StorageError)

    def test_a_table_has_other_rows(self, archive: Path, tmp_path: Path) -> None:
        def miscount(_found: Members, listed: dict[str, Any]) -> None:
            listed["tables"]["test.by_range"]["rows"] += 1

        def other(_found: Members, listed: dict[str, Any]) -> None:
            listed["tables"]["test.by_range"]["digest"] = "1 2"

        for change in (miscount, other):
            refused(changed(archive, tmp_path / "b.tar", change), tmp_path, "test.by_range", error=StorageError)

    def test_another_engine_s_digest_is_not_compared(self, archive: Path, tmp_path: Path) -> None:
        def other(_found: Members, listed: dict[str, Any]) -> None:
            listed["tables"]["test.by_range"]["digest"], listed["digest_engine"] = "1 2", "duckdb 1.0"

        restore(load_settings(home=tmp_path / "home"), changed(archive, tmp_path / "b.tar", other), say=quiet)
        assert history(tmp_path / "home")


class TestAMemberWouldGoElsewhere:
    @pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/tmp/evil", "a/./b", "a//b", ".", "a\0b"])  # noqa: S108
    def test_by_its_name(self, small: Path, tmp_path: Path, name: str) -> None:
        def add(found: Members, listed: dict[str, Any]) -> None:
            found.append((tarfile.TarInfo(f"home/{name}".split("\0", maxsplit=1)[0]), b"evil"))
            listed["files"][name] = {"sha256": hashlib.sha256(b"evil").hexdigest(), "size": 4}

        refused(changed(small, tmp_path / "b.tar", add), tmp_path, "is no path inside a home")

    @pytest.mark.parametrize("name", ["home/../../evil", "/evil", "../evil", "home/more", "more"])
    def test_that_is_not_listed(self, small: Path, tmp_path: Path, name: str) -> None:
        def add(found: Members, _listed: dict[str, Any]) -> None:
            found.append((tarfile.TarInfo(name), b"evil"))

        refused(changed(small, tmp_path / "b.tar", add), tmp_path, name, "its list does not name")

    @pytest.mark.parametrize(
        "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
    )
    def test_as_a_link_or_device(self, small: Path, tmp_path: Path, kind: bytes) -> None:
        def link(found: Members, _listed: dict[str, Any]) -> None:
            member = found[at(found, "a.json")][0]
            member.type, member.linkname = kind, "/etc/passwd"
            found[at(found, "a.json")] = (member, b"")

        refused(changed(small, tmp_path / "b.tar", link), tmp_path, "no plain file")

    def test_through_a_file_that_is_no_folder(self, small: Path, tmp_path: Path) -> None:
        def add(found: Members, listed: dict[str, Any]) -> None:
            found.append((tarfile.TarInfo("home/references/a.json/x"), b""))
            listed["files"]["references/a.json/x"] = {"sha256": hashlib.sha256().hexdigest(), "size": 0}

        refused(changed(small, tmp_path / "b.tar", add), tmp_path, error=StorageError)


class TestItIsNoArchive:
    @pytest.mark.parametrize("content", [b"", b"no tar", b"\0" * 10240, b"\x1f\x8b\x08"])
    def test_at_all(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.tar").write_bytes(content)
        refused(tmp_path / "a.tar", tmp_path, "a.tar can't be restored", "Next:")

    def test_of_a_home(self, tmp_path: Path) -> None:
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            tar.addfile(tarfile.TarInfo("something"))
        refused(tmp_path / "a.tar", tmp_path, "does not begin with manifest.json")

    def test_there(self, tmp_path: Path) -> None:
        refused(tmp_path / "none.tar", tmp_path, "there is no archive")
        refused(tmp_path, tmp_path, "there is no archive")

    def test_whose_list_is_its_own(self, small: Path, tmp_path: Path) -> None:
        found = members(small)
        found[0] = (found[0][0], found[0][1].replace(b"2024-03-01", b"2024-03-02"))
        with tarfile.open(tmp_path / "b.tar", "w") as tar:
            for member, content in found:
                tar.addfile(member, io.BytesIO(content))
        refused(tmp_path / "b.tar", tmp_path, "its list of contents was changed")

    @pytest.mark.parametrize(
        ("key", "value", "word"), [("format_version", 2, "format 2"), ("files", 1, "can't be read")]
    )
    def test_of_this_form(self, small: Path, tmp_path: Path, key: str, value: Any, word: str) -> None:
        refused(changed(small, tmp_path / "b.tar", lambda _, listed: listed.update({key: value})), tmp_path, word)

    def test_that_fits_the_disk(self, small: Path, tmp_path: Path) -> None:
        def grow(_found: Members, listed: dict[str, Any]) -> None:
            listed["files"]["references/a.json"]["size"] = 10**18

        refused(changed(small, tmp_path / "b.tar", grow), tmp_path, "GB free", error=StorageError)


def places(data: bytes, number: int) -> Iterator[int]:
    chosen = random.Random(5)
    yield from (chosen.randrange(len(data)) for _ in range(number))


def test_any_flipped_byte_is_refused_or_harmless(small: Path, tmp_path: Path) -> None:
    """Padding may change; whatever is restored is what was backed up."""
    with tarfile.open(small) as tar, tarfile.open(tmp_path / "plain.tar", "w") as plain:
        for member in tar:
            plain.addfile(member, tar.extractfile(member))
    expected = {member.name: content for member, content in members(small)}
    refusals = 0
    for source in (small, tmp_path / "plain.tar"):
        data = source.read_bytes()
        for place in places(data, 60):
            target = tmp_path / "b.tar"
            target.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
            home = tmp_path / f"home-{source.name}-{place}"
            try:
                restore(load_settings(home=home), target, say=quiet)
            except InputError:
                refusals += 1
                assert not home.exists()
            else:
                assert (home / "mlops.toml").read_bytes() == expected["home/mlops.toml"]
                assert (home / "references/a.json").read_bytes() == expected["home/references/a.json"]
    assert refusals > 20
    assert not list(tmp_path.glob(".*restoring*"))


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9])
def test_a_copy_that_stopped_early(archive: Path, tmp_path: Path, cut: float) -> None:
    data = archive.read_bytes()
    (tmp_path / "b.tar").write_bytes(data[: int(len(data) * cut)])
    refused(tmp_path / "b.tar", tmp_path, "can't be restored")


def restore_and_die(home: Path, archive: Path) -> None:
    """Killed when the files are unpacked and the paths not yet changed."""

    def die(*_: object) -> list[str]:
        os.kill(os.getpid(), signal.SIGKILL)
        return []

    restoring.relocate = die  # type: ignore[attr-defined]
    restore(load_settings(home=home), archive, say=quiet)


def test_a_restore_that_was_killed(small: Path, tmp_path: Path) -> None:
    process = start(restore_and_die, tmp_path / "home", small)
    process.join(PATIENCE_SECONDS)
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "home").exists()
    restore(load_settings(home=tmp_path / "home"), small, say=quiet)
    assert (tmp_path / "home/mlops.toml").is_file()
