"""Spool files of the prediction log: which are complete, and their lines as rows of `ml.online_predictions`.

A writer holds a lock on its file, which dies with its process; a file that can be locked is complete. Does not belong
here: writing the log, the table (`prediction_log.py`).
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

PATTERN = "predictions-*.jsonl"
REJECTED_SUFFIX = ".rejected"


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """A file's predictions, and the lines that are none."""

    path: Path
    rows: tuple[dict[str, Any], ...]
    rejected: tuple[bytes, ...]


@contextmanager
def without_writer(path: Path) -> Iterator[bool]:
    """Whether no process writes the file; while held, none can begin to."""
    file = os.open(path, os.O_RDONLY)
    try:
        yield _is_lockable(file)
    finally:
        os.close(file)


def _is_lockable(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def bounded(folder: Path, max_bytes: int) -> Iterator[Path]:
    """Spool files, complete ones first, until their sizes reach the bound."""
    complete: list[Path] = []
    open_ones: list[Path] = []
    for path in sorted(folder.glob(PATTERN)):
        with without_writer(path) as is_complete:
            (complete if is_complete else open_ones).append(path)
    for path in [*complete, *open_ones]:
        if max_bytes <= 0:
            return
        max_bytes -= path.stat().st_size
        yield path


def read_file(path: Path) -> SpoolFile:
    """Reads a file; a half-written last line is left out while its writer lives, and rejected when it is gone."""
    with without_writer(path) as is_complete:
        lines = path.read_bytes().split(b"\n")
    if not is_complete or not lines[-1]:
        lines.pop()
    rows, rejected = [], []
    for line in lines:
        row = _row(line)
        if row is None:
            rejected.append(line)
        else:
            rows.append(row)
    return SpoolFile(path, tuple(rows), tuple(rejected))


def backlog(folder: Path) -> tuple[int, int]:
    """Spool files that wait to be ingested, and their size in bytes."""
    sizes = []
    for path in folder.glob(PATTERN):
        # One that is retired meanwhile waits no more.
        with suppress(FileNotFoundError):
            sizes.append(path.stat().st_size)
    return len(sizes), sum(sizes)


def _row(line: bytes) -> dict[str, Any] | None:
    """The line as a row of ml.online_predictions; None if it is no prediction."""
    try:
        found = json.loads(line)
        stays, churns = (float(p) for p in found["probability"])
        row = {
            "prediction_id": found["prediction_id"],
            "predicted_at": datetime.fromisoformat(found["timestamp"]).astimezone(UTC),
            "model_name": found["model_name"],
            "model_version": found["model_version"].removeprefix("v"),
            "features": json.dumps(found["features"], allow_nan=False, separators=(",", ":")),
            "prediction": found["prediction"],
            "churn_probability": churns,
            "confidence": float(found["confidence"]),
            "inference_latency_ms": float(found["inference_latency_ms"]),
            "customer_hmac": found.get("customer_hmac"),
        }
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    texts = [row["prediction_id"], row["model_name"], row["model_version"]]
    texts += [] if row["customer_hmac"] is None else [row["customer_hmac"]]
    shares = (stays, churns, row["confidence"])
    fits = (
        all(isinstance(text, str) and text and text.isascii() for text in texts)
        and isinstance(found["features"], dict)
        and type(row["prediction"]) is int
        and row["prediction"] in {0, 1}
        and all(0.0 <= share <= 1.0 for share in shares)
        and 0.0 <= row["inference_latency_ms"] < math.inf
    )
    return row if fits else None


def set_aside(file: SpoolFile) -> None:
    """Writes the file's rejected lines beside it, whole, so that reading it again changes nothing."""
    if file.rejected:
        beside = file.path.with_name(file.path.name + REJECTED_SUFFIX)
        draft = beside.with_suffix(f".{os.getpid()}.tmp")
        draft.write_bytes(b"".join(line + b"\n" for line in file.rejected))
        draft.replace(beside)
