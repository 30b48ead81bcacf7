"""The drift reports' pages over HTTP, beside the exporter's metrics: what a link in the Dagster UI opens.

Belongs here: which file a path names, and under which headers a page is handed out. Does not belong here: writing the
pages (`report.py`), listening (`exporter.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

Environment: TypeAlias = dict[str, Any]
Application: TypeAlias = Callable[[Environment, Callable[..., Any]], Iterable[bytes]]

PREFIX = "/reports/"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.html")
_HEADERS = [
    ("Content-Type", "text/html; charset=utf-8"),
    ("X-Content-Type-Options", "nosniff"),
    # The page draws with scripts of its own; it shares nothing with this address, and asks for nothing.
    ("Content-Security-Policy", "sandbox allow-scripts; default-src 'unsafe-inline' 'unsafe-eval' data: blob:"),
]


def with_reports(application: Application, folder: Path) -> Application:
    """A WSGI application that answers `/reports/NAME.html` from a folder, and passes everything else on.

    Args:
        application: The application behind.
        folder: Holds the pages; it may be missing.
    """

    def answer(environment: Environment, start: Callable[..., Any]) -> Iterable[bytes]:
        path = environment.get("PATH_INFO", "")
        if not path.startswith(PREFIX):
            return application(environment, start)
        name = path.removeprefix(PREFIX)
        try:
            # A name of a file, not of a folder: nothing beside the pages can be asked for.
            content = (folder / name).read_bytes() if _NAME.fullmatch(name) else None
        except OSError:
            content = None
        if content is None or environment["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            start("404 Not Found", [("Content-Type", "text/plain")])
            return [b"no such report\n"]
        start("200 OK", [*_HEADERS, ("Content-Length", str(len(content)))])
        return [content if environment["REQUEST_METHOD"] == "GET" else b""]

    return answer
