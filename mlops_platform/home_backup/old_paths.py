"""The paths of a home inside text: found in every form the libraries write them, and replaced.

Belongs here: what counts as such a path. Does not belong here: which files hold text (`relocate.py`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

# A path begins where no name goes on: /mnt/data is not /data. Before it may stand the end of an escape: a line break
# in JSON, a percent-encoded byte, a terminal's colour. Looked at after the slash was found, which keeps the search
# fast: with this in front, it took 100 ns a byte.
_BEFORE = (
    rb"(?<![\w.\-\x80-\xff]{0})",
    rb"(?<=\\[nrtbf]{0})",
    rb"(?<=%[0-9A-Fa-f][0-9A-Fa-f]{0})",
    rb"(?<=\[0m{0})",
    rb"(?<=\[\d\dm{0})",
)
_SLASHES = (b"/", b"%2[Ff]")
# It ends likewise: /data/home is neither in /data/home2 nor in /data/home.old, in plain text, a URI or JSON.
_AFTER = rb"(?![\w\-~+@\x80-\xff]|\.\w|%(?!2[Ff])[0-9A-Fa-f]{2}|\\+u(?!00[01]))"
_PLAIN = re.compile(r"[\w.\-~]+", re.ASCII)
_FILE_SCHEME = rb"file(?:(?<!\wfile)|(?<=\\[nrtbf]file))(?::|%3[Aa])(?:(?:\\*/|%2[Ff]){2})?"


class OldPaths:
    """Replaces the paths that a home had by the one it has now.

    Args:
        homes: The paths it had, absolute.
        new: The path it has now, absolute; or an address such as s3://bucket/folder, which takes the place of a
            `file://` in front too.
    """

    def __init__(self, homes: Sequence[str], new: str) -> None:
        # Longest first: one may lie inside another.
        ordered = sorted(homes, key=len, reverse=True)
        forms = b"|".join(_any_form(home.removeprefix("/")) for home in ordered)
        begin = b"|".join(slash + _beginning(slash) for slash in _SLASHES)
        self._pattern = re.compile(b"(?:" + begin + b")(?:" + forms + b")" + _AFTER)
        self._new, self._quoted = new.encode(), quote(new, safe="/:" if "://" in new else "/").encode()
        # Taken away afterwards: an optional beginning of the pattern would make the search slow.
        ends = b"|".join(map(re.escape, {self._new, self._quoted}))
        self._scheme = re.compile(_FILE_SCHEME + b"(?=" + ends + b")") if "://" in new else None
        # For each path a piece that stands in all its forms as it is: a cheap first look.
        self.pieces = [max(_PLAIN.findall(home), key=len, default="") for home in ordered]

    def are_in(self, data: bytes) -> bool:
        """Whether the data holds any of them."""
        if not any(piece.encode() in data for piece in self.pieces):
            return False
        return self._pattern.search(data) is not None

    def replace(self, data: bytes) -> bytes:
        """The data with each of them replaced: percent-encoded where it was, as it is everywhere else."""
        moved = self._pattern.sub(lambda found: self._quoted if b"%" in found[0] else self._new, data)
        return moved if self._scheme is None else self._scheme.sub(b"", moved)


def _beginning(slash: bytes) -> bytes:
    """What must stand before a slash that begins a path; the slash itself has been read."""
    looks = (look.replace(b"{0}", slash) for look in _BEFORE)
    return b"(?:" + b"|".join(looks) + b")"


def _any_form(path: str) -> bytes:
    """A pattern for the path as UTF-8, percent-encoded, and in JSON, which may itself be a string in JSON."""
    return b"".join(re.escape(sign.encode()) if _PLAIN.fullmatch(sign) else _forms(sign) for sign in path)


def _forms(sign: str) -> bytes:
    if sign == "/":
        return rb"(?:\\*/|%2[Ff])"
    utf8, utf16 = sign.encode(), sign.encode("utf-16-be").hex()
    percent = b"".join(b"%%%02X" % byte for byte in utf8)
    json = b"".join(rb"\\+u" + utf16[at : at + 4].encode() for at in range(0, len(utf16), 4))
    return rb"(?:\\*" + re.escape(utf8) + b"|(?i:" + percent + b"|" + json + b"))"
