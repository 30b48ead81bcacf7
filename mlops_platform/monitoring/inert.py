"""Text of other people made harmless: names and values of columns, before they reach a page, a chart or a message.

Does not belong here: where the text goes.
"""

from __future__ import annotations

import html
from collections.abc import Iterable

MOST_CHARACTERS = 60
_EMPTY = "(empty text)"


def printable(text: str, most_characters: int = MOST_CHARACTERS) -> str:
    """Text without what does not print, for places that show text as it is.

    Control characters, changes of writing direction and lone surrogates become their Python escape; long text is cut.
    """
    cut = text if len(text) <= most_characters else text[: most_characters - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def inert(text: str, most_characters: int = MOST_CHARACTERS) -> str:
    """Printable text that no HTML, SVG or script context can take for markup."""
    # The charts decode &#34; and would show &quot; as it is.
    return html.escape(printable(text, most_characters)).replace("&quot;", "&#34;")


def labels(names: Iterable[str], reserved: Iterable[str] = ()) -> dict[str, str]:
    """Inert and still distinct: names that become equal by cutting, or equal one of `reserved`, are numbered."""
    found: dict[str, str] = {}
    taken = set(reserved)
    for name in names:
        label = candidate = inert(name) or _EMPTY
        number = 1
        while candidate in taken:
            number += 1
            candidate = f"{label} ({number})"
        taken.add(candidate)
        found[name] = candidate
    return found
