"""Text from data, made safe to show: one line or several, for Slack, for a spreadsheet, and without secrets.

Does not belong here: what a message says (`message.py`).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from mlops_platform.settings import mask_secrets

_NAMES = r"(?:passw|secret|token|api_?key|webhook|credential)"
_SECRET_NAME = re.compile(_NAMES, re.IGNORECASE)
_SECRET_MEMBER = re.compile(rf'("[^"]*{_NAMES}[^"]*": )("(?:[^"\\]|\\.)*"|[^,}}\]]+)', re.IGNORECASE)
# Control and format characters (bidirectional overrides are among them), lone surrogates, line and paragraph marks.
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def line(text: str, longest: int = 300) -> str:
    """The text on one line, without characters that can't be seen and passwords in addresses, and cut."""
    # Cut twice: what follows costs time for every character.
    return _cut(" ".join(_seen(mask_secrets(text[: 4 * longest])).split()), longest)


def lines(text: str, longest: int = 3_000) -> str:
    """The same with its line breaks."""
    broken = mask_secrets(text[: 4 * longest]).replace("\r\n", "\n").replace("\r", "\n")
    return _cut("\n".join(_seen(each) for each in broken.split("\n")).strip(), longest)


def value(name: str, found: Any) -> str:
    """A metadata value on one line; a secret by its name, or in an address, is masked."""
    if _SECRET_NAME.search(name):
        return "***"
    if not isinstance(found, Mapping | list | tuple):
        return line(str(found))
    try:
        shown = json.dumps(found, default=str, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        return type(found).__name__
    return line(_SECRET_MEMBER.sub(r'\1"***"', shown[:10_000]))


def for_slack(text: str, longest: int) -> str:
    """The text with Slack's three control characters as entities, at most so long with them.

    Nothing in it is then a link or a mention: https://docs.slack.dev/messaging/formatting-message-text/#escaping
    """
    cut = text[:longest]
    while len(escaped := _entities(cut)) > longest:
        # An entity is at most five characters long.
        cut = cut[: len(cut) - max(1, (len(escaped) - longest) // 5)]
    return escaped


def _entities(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _seen(text: str) -> str:
    return "".join(sign if unicodedata.category(sign) not in _UNSEEN else " " for sign in text)


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
