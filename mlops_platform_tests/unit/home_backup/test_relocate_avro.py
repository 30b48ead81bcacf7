"""Manifests and manifest lists keep everything but their paths, as PyIceberg reads them and byte for byte."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.avro.codecs.deflate import DeflateCodec
from pyiceberg.avro.file import AvroFile
from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.typedef import Record

from mlops_platform.home_backup.old_paths import OldPaths
from mlops_platform.home_backup.relocate_avro import Mover, is_manifest_list, move
from mlops_platform.settings import load_settings
from mlops_platform_tests.unit.home_backup.homes import publish_tables

NEW = "/some/other/and/much/longer/place"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("avro") / "home"
    publish_tables(load_settings(home=home))
    return home


@pytest.fixture(scope="module")
def files(home: Path) -> list[Path]:
    found = sorted(home.glob("warehouse/*/*/metadata/*.avro"))
    assert len(found) > 10
    return found


def read(path: Path) -> tuple[dict[str, str], list[Any]]:
    """Header and records, read with the schema in the file: no field is left out or added."""
    with AvroFile[Record](PyArrowFileIO().new_input(str(path))) as file:
        records = [plain(record) for record in file]
        return dict(file.header.meta), records


def plain(value: Any) -> Any:
    if isinstance(value, Record):
        return [plain(value[index]) for index in range(len(value))]
    return [plain(item) for item in value] if isinstance(value, list) else value


def named_elsewhere(value: Any, old: str) -> Any:
    if isinstance(value, list):
        return [named_elsewhere(item, old) for item in value]
    return value.replace(old, NEW) if isinstance(value, str) else value


def test_nothing_but_the_paths_changes(home: Path, files: list[Path], tmp_path: Path) -> None:
    old = OldPaths([str(home)], NEW)
    for path in files:
        (tmp_path / "moved.avro").write_bytes(move(path.read_bytes(), Mover(old)))
        header, records = read(path)
        assert named_elsewhere(records, str(home)) != records
        assert read(tmp_path / "moved.avro") == (header, named_elsewhere(records, str(home)))


def test_a_move_to_the_same_place_changes_no_byte(home: Path, files: list[Path]) -> None:
    mover = Mover(OldPaths([str(home)], str(home)))
    for path in files:
        assert move(path.read_bytes(), mover) == path.read_bytes()


def test_there_and_back(home: Path, files: list[Path]) -> None:
    there, back = Mover(OldPaths([str(home)], NEW)), Mover(OldPaths([NEW], str(home)))
    for path in files:
        assert move(move(path.read_bytes(), there), back) == path.read_bytes()


def test_a_list_tells_the_new_lengths(home: Path, files: list[Path], tmp_path: Path) -> None:
    lists = [path for path in files if is_manifest_list(path.read_bytes())]
    assert {path.name.startswith("snap-") for path in lists} == {True}
    assert all(is_manifest_list(path.read_bytes()) == path.name.startswith("snap-") for path in files)
    lengths = {path.relative_to(home / "warehouse").as_posix(): 10**9 + number for number, path in enumerate(files)}
    for path in lists:
        (tmp_path / "moved.avro").write_bytes(move(path.read_bytes(), Mover(OldPaths([str(home)], NEW), lengths)))
        for manifest, length, *_ in read(tmp_path / "moved.avro")[1]:
            assert lengths[manifest.removeprefix(f"file://{NEW}/warehouse/")] == length


SCHEMA = {
    "type": "record",
    "name": "entry",
    "fields": [
        {"name": "file_path", "field-id": 100, "type": "string"},
        {"name": "none", "type": ["null", "string"]},
        {"name": "some", "field-id": 143, "type": ["null", "string"]},
        {"name": "kind", "type": {"type": "enum", "name": "kind", "symbols": ["a", "b"]}},
        {"name": "fix", "type": {"type": "fixed", "name": "fix", "size": 3}},
        {"name": "again", "type": "fix"},
        {"name": "counts", "type": {"type": "map", "values": "double"}},
        {"name": "flags", "type": {"type": "array", "items": "boolean"}},
        {"name": "when", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "part", "type": "float"},
    ],
}


def text(value: str) -> bytes:
    return number(len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    rest, out = (value << 1) ^ (value >> 63), b""
    while rest > 0x7F:
        out, rest = out + bytes([rest & 0x7F | 0x80]), rest >> 7
    return out + bytes([rest])


def entry(path: str, *, has_sizes: bool) -> bytes:
    """A record of SCHEMA; a map and an array as two blocks, with or without their sizes in bytes."""
    flags = number(-2) + number(2) + b"\x00\x01" if has_sizes else number(2) + b"\x00\x01"
    counts = number(1) + text("/old") + b"12345678"
    values = [text(path), number(0), number(1), text(path), number(1), b"abc", b"def", counts, number(0), flags]
    # One more flag in a block of its own, and the end of the blocks.
    return b"".join([*values, number(1), b"\x01", number(0), number(-(2**62)), b"flot"])


@pytest.mark.parametrize("codec", ["null", "deflate"])
def test_every_kind_of_value(codec: str) -> None:
    """Values that other engines write, checked against bytes made here."""

    def file(path: str, *, has_sizes: bool) -> bytes:
        meta = {"avro.schema": json.dumps(SCHEMA), "avro.codec": codec, "path": "/old/x"}
        header = b"Obj\x01" + number(len(meta)) + b"".join(text(k) + text(v) for k, v in meta.items()) + number(0)
        out = header + b"s" * 16
        for count in (1, 3):
            block = entry(path, has_sizes=has_sizes) * count
            packed = DeflateCodec.compress(block)[0] if codec == "deflate" else block
            out += number(count) + number(len(packed)) + packed + b"s" * 16
        return out

    moved = move(file("file:///old/x", has_sizes=True), Mover(OldPaths(["/old"], NEW)))
    assert moved == file(f"file://{NEW}/x", has_sizes=False)


@pytest.mark.parametrize(("data", "words"), [(b"PAR1", "no Avro file"), (b"Obj\x01\x02\x16avro", "too early")])
def test_what_is_no_avro_file_is_a_fault(data: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        move(data, Mover(OldPaths(["/old"], NEW)))
