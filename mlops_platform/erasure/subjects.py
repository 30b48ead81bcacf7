"""Whom to erase: the ids, their keyed hashes, and how either is recognised in text.

Does not belong here: where to look (`tables.py`, `files.py`, `scan.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import InputError
from mlops_platform.storage.pseudonym import BLANKS, customer_hmacs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from mmap import mmap

    from mlops_platform.settings import Settings

ID_KEY, HMAC_KEY = "customer_id", "customer_hmac"
# A digit or letter beside an id makes it part of another one: C1 is not in C10. Numbers stand in dates, versions and
# fractions too, so that for an id of digits a dot or hyphen that goes on counts as well.
_WORD = rb"[0-9A-Za-z_\x80-\xff]"
_BEFORE, _AFTER = rb"(?<!" + _WORD + rb")", rb"(?!" + _WORD + rb")"
_BEFORE_NUMBER, _AFTER_NUMBER = _BEFORE + rb"(?<![0-9A-Za-z][.\-])", rb"(?![0-9A-Za-z_\x80-\xff]|[.\-][0-9A-Za-z])"
# Among thousands of hashes one is looked up, not tried.
_HASH = re.compile(_BEFORE + rb"[0-9a-f]{64}" + _AFTER)


@dataclass(frozen=True)
class Subjects:
    """The customers of one erasure.

    Args:
        ids: Their customer_ids, each once, without blanks around.
        hmacs: Their keyed hashes, in the same order.
    """

    ids: tuple[str, ...]
    hmacs: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings, customer_ids: Iterable[str]) -> Subjects:
        """The customers of these ids.

        Raises:
            InputError: No id, or a blank one.
        """
        ids = tuple(dict.fromkeys(found.strip(BLANKS) for found in customer_ids))
        if not ids or not all(ids):
            raise InputError("no customer was named, or a blank one", expected="one customer_id or more")
        return cls(ids, tuple(customer_hmacs(settings, ids)))

    def places(self, data: bytes | mmap) -> Iterator[int]:
        """Where ids and hashes stand in the bytes as whole words."""
        if self._ids is not None:
            yield from (match.start() for match in self._ids.finditer(data))
        if self.hmacs:
            yield from (match.start() for match in _HASH.finditer(data) if match[0] in self._hashes)

    def are_in(self, data: bytes | mmap) -> bool:
        """Whether an id or hash stands in the bytes."""
        return next(self.places(data), None) is not None

    def taken_out(self, data: bytes, by: bytes) -> bytes:
        """The bytes with every id and hash replaced."""
        kept = self._ids.sub(by, data) if self._ids is not None else data
        return _HASH.sub(lambda match: by if match[0] in self._hashes else match[0], kept)

    def are_in_text(self, text: str) -> bool:
        """Whether an id or hash stands in the text."""
        return self.are_in(text.encode("utf-8", "surrogatepass"))

    def replaced(self, text: str, by: str) -> str:
        """The text with every id and hash replaced."""
        return self.taken_out(text.encode("utf-8", "surrogatepass"), by.encode()).decode("utf-8", "surrogatepass")

    def are_named_in(self, value: Any) -> bool:
        """Whether decoded JSON names one of them: a text that holds the id, or a number under `customer_id`."""
        if isinstance(value, str):
            return self.are_in_text(value)
        if isinstance(value, dict):
            return any(self._is_named(key, cell) for key, cell in value.items())
        return isinstance(value, list) and any(map(self.are_named_in, value))

    def _is_named(self, key: str, cell: Any) -> bool:
        if key == ID_KEY and isinstance(cell, int):
            return str(cell) in self._known
        return self.are_named_in(cell) or self.are_in_text(key)

    def scrubbed(self, value: Any, by: str) -> Any:
        """Decoded JSON with every id and hash replaced, and null for a number under `customer_id`."""
        if isinstance(value, str):
            return self.replaced(value, by)
        if isinstance(value, dict):
            cells: Mapping[str, Any] = value
            return {
                self.replaced(key, by): None
                if key == ID_KEY and isinstance(cell, int) and str(cell) in self._known
                else self.scrubbed(cell, by)
                for key, cell in cells.items()
            }
        return [self.scrubbed(cell, by) for cell in value] if isinstance(value, list) else value

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.ids)

    @cached_property
    def _hashes(self) -> frozenset[bytes]:
        return frozenset(name.encode() for name in self.hmacs)

    @cached_property
    def _ids(self) -> re.Pattern[bytes] | None:
        numbers = [name.encode() for name in self.ids if name.isdigit()]
        words = [name.encode() for name in self.ids if not name.isdigit()]
        kinds = ((_BEFORE, words, _AFTER), (_BEFORE_NUMBER, numbers, _AFTER_NUMBER))
        found = [before + _any_of(names) + after for before, names, after in kinds if names]
        return re.compile(b"|".join(found)) if found else None


def _any_of(words: Iterable[bytes]) -> bytes:
    """An expression that matches any of the words, as a tree: `re` would try thousands of alternatives in turn."""
    tree: dict[int, Any] = {}
    end = -1
    for word in words:
        node = tree
        for byte in word:
            node = node.setdefault(byte, {})
        node[end] = {}
    return _branches(tree, end)


def _branches(node: dict[int, Any], end: int) -> bytes:
    # A run without branches stays one literal, so that the expression is not nested as deep as an id is long.
    run = b""
    while len(node) == 1 and end not in node:
        [(byte, node)] = node.items()
        run += re.escape(bytes([byte]))
    parts = [re.escape(bytes([byte])) + _branches(child, end) for byte, child in node.items() if byte != end]
    if not parts:
        return run
    # Longer ids first: the boundary decides whether the shorter one is meant.
    return run + b"(?:" + b"|".join(parts) + b")" + (b"?" if end in node else b"")
