"""A small document in two forms: blocks to Markdown, and to one HTML file that holds its pictures.

Belongs here: the blocks and their two forms; every text is made inert in both. Does not belong here: what a document
says (`model_card.py`).
"""

from __future__ import annotations

import html
import re
from base64 import b64encode
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; max-width: 920px; margin: 32px auto; padding: 0 24px; }
h1 { font-size: 26px; margin: 0 0 8px; } h2 { font-size: 19px; margin: 36px 0 8px; }
table { border-collapse: collapse; margin: 12px 0; }
th, td { border-bottom: 1px solid #ddd; padding: 4px 20px 4px 0; text-align: left; vertical-align: top; }
td { overflow-wrap: anywhere; } td:first-child { overflow-wrap: normal; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
code { font-size: 13px; background: #f2f2f2; padding: 1px 5px; border-radius: 3px; }
.pictures { display: flex; flex-wrap: wrap; gap: 16px; margin: 12px 0; }
.pictures img { width: 440px; max-width: 100%; align-self: flex-start; } .pictures img:only-child { width: 640px; }
"""
# An underscore inside a word means nothing to Markdown, and names are full of them.
_MARKS = re.compile(r"[\\`*\[\]|#~$]|(?<!\w)_|_(?!\w)")


class Code(str):
    """A text to be typed, or compared, letter by letter."""

    __slots__ = ()


class Heading(NamedTuple):
    """Opens a section."""

    text: str


class Paragraph(NamedTuple):
    """A paragraph."""

    text: str


class Items(NamedTuple):
    """A list."""

    texts: Sequence[str]


class Table(NamedTuple):
    """A table; the columns from `numbers_from` on hold numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers_from: int = 99


class Pictures(NamedTuple):
    """PNG files by name: `roc` is `roc.png`."""

    files: Mapping[str, bytes]


Block = Heading | Paragraph | Items | Table | Pictures


def as_markdown(title: str, blocks: Iterable[Block]) -> str:
    """Markdown; pictures are links to files beside it."""
    return "\n\n".join([f"# {_plain(title)}", *map(_markdown, blocks)]) + "\n"


def as_html(title: str, blocks: Iterable[Block]) -> str:
    """One HTML file that holds its pictures, runs no script and fetches nothing."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *map(_html, blocks)])
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _markdown(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {_plain(text)}"
        case Paragraph(text):
            return _plain(text)
        case Items(texts):
            return "\n".join(f"- {_plain(text)}" for text in texts)
        case Table(head, rows, numbers_from):
            rule = ["---:" if place >= numbers_from else "---" for place in range(len(head))]
            lines = [map(_plain, head), rule, *(map(_cell, row) for row in rows)]
            return "\n".join(f"| {' | '.join(line)} |" for line in lines)
        case Pictures(files):
            return "\n".join(f"![{_plain(_caption(name))}]({name}.png)" for name in files)


def _cell(text: str) -> str:
    # In code nothing can be escaped: what would end the code or the cell is written as plain text.
    return f"`{text}`" if isinstance(text, Code) and not set(text) & set("`|\n\r") else _plain(text)


def _plain(text: str) -> str:
    """One line in which nothing is a mark of Markdown or a tag."""
    return _MARKS.sub(r"\\\g<0>", html.escape(" ".join(text.split()), quote=False))


def _html(block: Block) -> str:
    match block:
        case Heading(text):
            return f"<h2>{html.escape(text)}</h2>"
        case Paragraph(text):
            return f"<p>{html.escape(text)}</p>"
        case Items(texts):
            return f"<ul>{''.join(f'<li>{html.escape(text)}</li>' for text in texts)}</ul>"
        case Table(head, rows, numbers_from):
            heads = _row("th", head, numbers_from)
            cells = "".join(_row("td", row, numbers_from) for row in rows)
            return f"<table><thead>{heads}</thead><tbody>{cells}</tbody></table>"
        case Pictures(files):
            return f'<div class="pictures">{"".join(_image(name, png) for name, png in files.items())}</div>'


def _row(tag: str, cells: Sequence[str], numbers_from: int) -> str:
    found = []
    for place, text in enumerate(cells):
        inside = f"<code>{html.escape(text)}</code>" if isinstance(text, Code) else html.escape(text)
        mark = ' class="number"' if place >= numbers_from else ""
        found.append(f"<{tag}{mark}>{inside}</{tag}>")
    return f"<tr>{''.join(found)}</tr>"


def _image(name: str, png: bytes) -> str:
    return f'<img alt="{html.escape(_caption(name))}" src="data:image/png;base64,{b64encode(png).decode()}">'


def _caption(name: str) -> str:
    return name.replace("_", " ")
