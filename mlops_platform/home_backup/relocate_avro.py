"""Iceberg's manifests and manifest lists moved to another path: the paths change, every other byte stays.

PyIceberg's reader and writer would translate the schema and what it does not know is lost; here each value is copied
as it is encoded. Belongs here: Avro's form, and Iceberg's ids of the fields that hold paths. Does not belong here:
which files there are (`relocate.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_platform.home_backup.old_paths import OldPaths

# Field ids of the Iceberg specification.
_MANIFEST_PATH, _MANIFEST_LENGTH = 500, 501
_FILE_PATH, _REFERENCED_DATA_FILE = 100, 143
_PATHS = {_MANIFEST_PATH, _FILE_PATH, _REFERENCED_DATA_FILE}
# <namespace>/<table>/metadata/<file>
_DEPTH = 4
_MAGIC, _SYNC_BYTES = b"Obj\x01", 16


@dataclass(slots=True)
class Mover:
    """What changes.

    Args:
        old: The paths to replace.
        lengths: Path of each moved manifest in the warehouse to its length; not needed to move a manifest.
    """

    old: OldPaths
    lengths: Mapping[str, int] = field(default_factory=dict)
    _last: str = field(default="", init=False)

    def path(self, value: bytes) -> bytes:
        """The moved path."""
        moved = self.old.replace(value)
        self._last = moved.decode()
        return moved

    def length(self, value: int) -> int:
        """The length of the manifest whose path came just before."""
        inside = "/".join(self._last.split("/")[-_DEPTH:])
        return self.lengths.get(inside, value)


class _Bytes:
    """Encoded values, read one after another."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        start, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise ValueError("an Avro file ends too early")
        return self.data[start : self.at]

    def number(self) -> int:
        """A zig-zag encoded integer."""
        found = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (found >> 1) ^ -(found & 1)
            shift += 7


Step = Callable[[_Bytes, bytearray], None]


def is_manifest_list(data: bytes) -> bool:
    """Whether the file is a manifest list; a manifest otherwise."""
    schema, _, _ = _header(_Bytes(data))
    return any(found.get("field-id") == _MANIFEST_PATH for found in schema["fields"])


def move(data: bytes, mover: Mover) -> bytes:
    """The file with its paths, and the lengths of manifests, changed."""
    from pyiceberg.avro.codecs import KNOWN_CODECS

    source = _Bytes(data)
    schema, codec_name, sync = _header(source)
    codec = KNOWN_CODECS[codec_name]  # type: ignore[index]
    step = _copying(schema, {}, mover)
    out = bytearray(data[: source.at])
    while source.at < len(data):
        count, block = source.number(), source.take(source.number())
        records, moved = _Bytes(codec.decompress(block) if codec else block), bytearray()
        for _ in range(count):
            step(records, moved)
        packed = codec.compress(bytes(moved))[0] if codec else bytes(moved)
        out += _encoded(count) + _encoded(len(packed)) + packed + sync
        if source.take(_SYNC_BYTES) != sync:
            raise ValueError("an Avro file has a broken block")
    return bytes(out)


def _header(source: _Bytes) -> tuple[dict[str, Any], str, bytes]:
    """Schema, codec and sync marker; `source` stands after them."""
    if source.take(len(_MAGIC)) != _MAGIC:
        raise ValueError("no Avro file")
    found: dict[str, bytes] = {}
    while count := source.number():
        if count < 0:
            source.number()
        for _ in range(abs(count)):
            key = source.take(source.number()).decode()
            found[key] = source.take(source.number())
    codec = found.get("avro.codec", b"null").decode()
    return json.loads(found["avro.schema"]), codec, source.take(_SYNC_BYTES)


def _encoded(number: int) -> bytes:
    rest, out = (number << 1) ^ (number >> 63), bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _copying(schema: Any, names: dict[str, Step], mover: Mover) -> Step:
    """A function that copies one value of the schema."""
    if isinstance(schema, list):
        return _union([_copying(branch, names, mover) for branch in schema])
    if isinstance(schema, str):
        return names.get(schema) or _primitive(schema)
    kind = schema["type"]
    if kind == "array":
        return _blocks(_copying(schema["items"], names, mover))
    if kind == "map":
        return _blocks(_sequence([_text, _copying(schema["values"], names, mover)]))
    if kind not in {"record", "fixed", "enum"}:
        return _copying(kind, names, mover)
    makers = {"record": lambda: _record(schema, names, mover), "fixed": lambda: _fixed(schema["size"])}
    names[schema["name"]] = step = makers.get(kind, lambda: _number)()
    return step


def _record(schema: dict[str, Any], names: dict[str, Step], mover: Mover) -> Step:
    steps = []
    for found in schema["fields"]:
        id_ = found.get("field-id")
        if id_ in _PATHS:
            steps.append(_optional(found["type"], _changed_text(mover)))
        elif id_ == _MANIFEST_LENGTH:
            steps.append(_optional(found["type"], _changed_number(mover)))
        else:
            steps.append(_copying(found["type"], names, mover))
    return _sequence(steps)


def _optional(schema: Any, step: Step) -> Step:
    if not isinstance(schema, list):
        return step
    return _union([_primitive("null") if branch == "null" else step for branch in schema])


def _primitive(name: str) -> Step:
    if name in {"int", "long"}:
        return _number
    if name in {"string", "bytes"}:
        return _text
    return _fixed({"null": 0, "boolean": 1, "float": 4, "double": 8}[name])


def _number(source: _Bytes, out: bytearray) -> None:
    start = source.at
    while source.data[source.at] > 0x7F:
        source.at += 1
    source.at += 1
    out += source.data[start : source.at]


def _text(source: _Bytes, out: bytearray) -> None:
    start = source.at
    size = source.number()
    source.take(size)
    out += source.data[start : source.at]


def _fixed(size: int) -> Step:
    def step(source: _Bytes, out: bytearray) -> None:
        out += source.take(size)

    return step


def _changed_text(mover: Mover) -> Step:
    def step(source: _Bytes, out: bytearray) -> None:
        moved = mover.path(source.take(source.number()))
        out += _encoded(len(moved)) + moved

    return step


def _changed_number(mover: Mover) -> Step:
    def step(source: _Bytes, out: bytearray) -> None:
        out += _encoded(mover.length(source.number()))

    return step


def _sequence(steps: list[Step]) -> Step:
    def step(source: _Bytes, out: bytearray) -> None:
        for each in steps:
            each(source, out)

    return step


def _union(branches: list[Step]) -> Step:
    def step(source: _Bytes, out: bytearray) -> None:
        branch = source.number()
        out += _encoded(branch)
        branches[branch](source, out)

    return step


def _blocks(item: Step) -> Step:
    def step(source: _Bytes, out: bytearray) -> None:
        while count := source.number():
            if count < 0:
                # The block's size in bytes, which a path inside would change, may be left out.
                source.number()
            out += _encoded(abs(count))
            for _ in range(abs(count)):
                item(source, out)
        out += _encoded(0)

    return step
