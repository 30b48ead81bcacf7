"""Secrets in text: the password of every address is replaced before a message, a list or a file shows it.

Does not belong here: which settings are secrets (`declaration.py`).
"""

from __future__ import annotations

import re


def mask_secrets(text: str) -> str:
    """Replaces the password of every address in the text, before the host or among its parameters."""
    masked = re.sub(r"(?<=://)([^:/@\s]*):(\S*)@", r"\1:***@", text)
    return re.sub(r"([?&](?:password|passwd|pwd|sslpassword)=)[^&\s]*", r"\1***", masked, flags=re.IGNORECASE)
