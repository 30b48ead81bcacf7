"""Erasing customers from the files of a home that are no tables.

- Spool files of the prediction log: lines are taken out of complete files; one that a service writes is left for the
  next time, since a line it adds meanwhile would be lost.
- Drift reports: deleted. They hold figures of thousands of customers and are made again by materializing their tick;
  a changed page would no longer fit the hashes that allow its scripts.
- Logs (ours and Dagster's): lines are overwritten in place by dashes of the same length, because a process may go on
  writing to the file.
- References and MLflow's artifacts: an id in JSON, HTML or text is replaced, a line of CSV or JSONL is taken out.

Does not belong here: databases and binary files, which `scan.py` reports.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.inference_pipeline.spool import PATTERN, REJECTED_SUFFIX, without_writer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlops_platform.erasure.subjects import Subjects
    from mlops_platform.settings import Settings

ERASED = "erased"
_LOGS = {".log", ".out", ".err"}
_LINES = {".jsonl", ".csv", ".tsv"}
_TEXTS = {".html", ".txt", ".md", ".yaml", ".yml", ".svg"}


def erase_from_files(settings: Settings, subjects: Subjects) -> tuple[list[Path], list[Path]]:
    """Erases the customers from every file that can be changed.

    Returns:
        The files changed or deleted, and spool files left alone because a service is writing them.
    """
    changed, busy = _erase_from_spool(settings.prediction_spool, subjects)
    for path in _files(settings.reports):
        if subjects.are_in(path.read_bytes()):
            path.unlink()
            changed.append(path)
    for folder in (settings.home / "references", settings.mlflow_artifacts, settings.home / "logs"):
        changed += [path for path in _files(folder) if _erase_from_file(path, subjects)]
    # Beside Dagster's logs lie its databases, which have other endings.
    changed += [path for path in _files(settings.dagster_home) if path.suffix in _LOGS and _blank(path, subjects)]
    return changed, busy


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _erase_from_spool(folder: Path, subjects: Subjects) -> tuple[list[Path], list[Path]]:
    changed, busy = [], []
    for path in sorted([*folder.glob(PATTERN), *folder.glob(f"{PATTERN}{REJECTED_SUFFIX}")]):
        # Its writer would add lines to a file that is no longer there.
        with without_writer(path) as is_complete:
            if not is_complete:
                if any(_is_theirs(line, subjects) for line in path.read_bytes().splitlines()):
                    busy.append(path)
            elif _take_lines_out(path, subjects):
                changed.append(path)
    return changed, busy


def _erase_from_file(path: Path, subjects: Subjects) -> bool:
    """Whether the file named a customer and does not any more."""
    if path.suffix in _LOGS:
        return _blank(path, subjects)
    if path.suffix in _LINES:
        return _take_lines_out(path, subjects)
    if path.suffix == ".json":
        return _scrub_json(path, subjects)
    if path.suffix in _TEXTS and subjects.are_in(text := path.read_bytes()):
        _replace(path, subjects.taken_out(text, ERASED.encode()))
        return True
    return False


def _blank(path: Path, subjects: Subjects) -> bool:
    """Overwrites the lines that name a customer, in place."""
    has_changed = False
    with path.open("r+b") as file:
        position = 0
        for line in file:
            if subjects.are_in(line):
                body = line.rstrip(b"\r\n")
                os.pwrite(file.fileno(), b"-" * len(body), position)
                has_changed = True
            position += len(line)
    return has_changed


def _take_lines_out(path: Path, subjects: Subjects) -> bool:
    """Replaces the file by one without the lines that name a customer, in one step."""
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not _is_theirs(line, subjects)]
    if len(kept) == len(lines):
        return False
    _replace(path, b"".join(kept))
    return True


def _is_theirs(line: bytes, subjects: Subjects) -> bool:
    """Whether a line names a customer; in a JSON object a number is one only under `customer_id`."""
    if line.lstrip().startswith(b"{"):
        try:
            return subjects.are_named_in(json.loads(line))
        except ValueError:
            return subjects.are_in(line)
    return subjects.are_in(line)


def _scrub_json(path: Path, subjects: Subjects) -> bool:
    text = path.read_bytes()
    try:
        found = json.loads(text)
    except ValueError:
        if not subjects.are_in(text):
            return False
        _replace(path, subjects.taken_out(text, ERASED.encode()))
        return True
    if not subjects.are_named_in(found):
        return False
    # As it was laid out before, as far as that can be told.
    indent = re.search(rb"\n( *)\S", text)
    scrubbed = json.dumps(subjects.scrubbed(found, ERASED), indent=len(indent[1]) if indent else None)
    _replace(path, scrubbed.encode())
    return True


def _replace(path: Path, data: bytes) -> None:
    """A reader sees the old file or the new one; permissions stay."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        draft.write_bytes(data)
        draft.chmod(path.stat().st_mode)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
