"""Plain text in the places of the Dagster UI that take Markdown: the description of a check's outcome is one.

Does not belong here: which texts these are.
"""

from __future__ import annotations

import re

# What starts a link, an image, code, emphasis, a table cell, math or HTML; an underscore inside a word starts nothing.
_MARKUP = re.compile(r"[\\`*\[\]<>&|~$]|(?<!\w)_|_(?!\w)")
_ESCAPED = re.compile(r"\\([\\`*\[\]<>&|~$_:.@])")
_ADDRESS = re.compile(r"://|(?<=www)\.|(?<=\w)@(?=\w)")


def plain(text: str) -> str:
    """Markdown that is shown as the text: without it `<b>` vanishes and `[x](https://…)` becomes a link."""
    return _ADDRESS.sub(lambda found: "\\" + found[0], _MARKUP.sub(lambda found: "\\" + found[0], text))


def text_of(markdown: str) -> str:
    """The text that `plain` made Markdown of, for a place that shows text as it is, such as an alert."""
    return _ESCAPED.sub(r"\1", markdown)
