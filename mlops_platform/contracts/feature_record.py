"""Records of feature declarations: which version they are, and a digest of each, in a JSON file beside them.

Belongs here: reading and writing such a file. Does not belong here: digests, and what follows when one differs
(`feature_pipeline/record.py`).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mlops_platform.errors import InputError

STANDARD_RECORD = Path(__file__).with_name("recorded_features.json")


@dataclass(frozen=True, slots=True)
class FeatureRecord:
    """What was recorded of a list of declarations.

    Args:
        version: Such as `v1.0` of the standard features, `u2` of a user's own.
        digests: By feature.
    """

    version: str
    digests: Mapping[str, str] = field(default_factory=dict)

    def raised(self) -> FeatureRecord:
        """The next version, of nothing yet: v1.0 → v1.1, u2 → u3."""
        head, number = re.fullmatch(r"(.*?)(\d+)", self.version).groups()  # type: ignore[union-attr]
        return FeatureRecord(f"{head}{int(number) + 1}")


def read_record(path: Path, *, unrecorded: str = "u0") -> FeatureRecord:
    """The record in a file; an empty one of the version `unrecorded` where there is no file.

    Raises:
        InputError: The file is no record.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version, digests = found["version"], found["features"]
        if not re.fullmatch(r"[a-z][0-9.]*\d", version) or not all(isinstance(d, str) for d in digests.values()):
            raise ValueError(f"version {version!r}")
    except FileNotFoundError:
        return FeatureRecord(unrecorded)
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise InputError(
            f"{path} is no record of features: {error}",
            expected="a file that `mlops features record` wrote",
            hint="restore it from your version control.",
        ) from error
    return FeatureRecord(version, digests)


def write_record(path: Path, record: FeatureRecord) -> None:
    """Writes a record, replacing an older one in one step.

    Raises:
        InputError: The file can't be written.
    """
    text = json.dumps({"version": record.version, "features": dict(record.digests)}, indent=1)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_text(text + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise InputError(f"{path} can't be written: {error}", expected="a folder this user can write") from error
