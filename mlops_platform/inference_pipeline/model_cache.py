"""The last known good model, kept in the home for a start without MLflow or the model store.

One zip file a model's name, `<home>/serving/<name>.zip`, replaced in one step: the version's files as they are in its
run, and its facts as JSON. Nothing in it is pickled. Does not belong here: when it is used (`current.py`).
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlops_platform.errors import ModelError, StorageError
from mlops_platform.inference_pipeline.version_files import VersionFiles
from mlops_platform.training_pipeline.model_digest import MODEL_FILES, files_digest
from mlops_platform.training_pipeline.registry import RegisteredModel

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_platform.settings import Settings

_FOLDER = "serving"
_FACTS = "version.json"
_FORMAT = 1
# What reading a damaged zip file, or one of other contents, raises.
_DAMAGE = (OSError, EOFError, ValueError, TypeError, LookupError, RuntimeError, zipfile.BadZipFile, zlib.error)


def cache_path(settings: Settings) -> Path:
    """The file that holds the last known good model."""
    return settings.home / _FOLDER / f"{quote(settings.model_name, safe='')}.zip"


def keep(settings: Settings, files: VersionFiles) -> None:
    """Puts a version in the place of the one kept before.

    Raises:
        StorageError: It can't be written; the one before is still there.
    """
    path = cache_path(settings)
    draft = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with draft.open("wb") as raw:
                # Model files are compressed as they are, or small.
                with zipfile.ZipFile(raw, "w") as archive:
                    for name in MODEL_FILES:
                        if (files.folder / name).is_file():
                            archive.write(files.folder / name, name)
                    archive.writestr(_FACTS, json.dumps(_facts(files)))
                raw.flush()
                os.fsync(raw.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"{path} can't be written: {error}", hint="free some space, or mend the rights.") from error


def restore(settings: Settings, folder: Path) -> VersionFiles | None:
    """Unpacks the last known good model into a folder; None if there is none.

    Raises:
        ModelError: The file is damaged, or of another model.
    """
    path = cache_path(settings)
    if not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            facts = json.loads(archive.read(_FACTS))
            for name in set(MODEL_FILES) & set(archive.namelist()):
                archive.extract(name, folder)
        if facts["format"] != _FORMAT:
            raise ValueError(f"it has format {facts['format']} in place of {_FORMAT}")
        files = VersionFiles(_model(facts["model"]), dict(facts["run_tags"]), folder)
        if files_digest(folder) != facts["files_sha256"]:
            raise ValueError("its files are not those that were kept")
        if files.model.name != settings.model_name:
            raise ValueError(f"it holds {files.model.name}")
    except _DAMAGE as error:
        raise ModelError(
            f"the last known good model in {path} can't be used ({type(error).__name__}: {error})",
            hint="nothing: it is replaced when a model has been loaded from the registry.",
        ) from error
    return files


def _facts(files: VersionFiles) -> dict[str, Any]:
    model = files.model
    created_at = model.created_at.isoformat() if model.created_at is not None else None
    return {
        "format": _FORMAT,
        "files_sha256": files_digest(files.folder),
        "run_tags": dict(files.run_tags),
        "model": {
            "name": model.name, "version": model.version, "stage": model.stage, "run_id": model.run_id,
            "tags": model.tags, "created_at": created_at,
        },
    }  # fmt: skip


def _model(facts: dict[str, Any]) -> RegisteredModel:
    created_at = facts.pop("created_at")
    return RegisteredModel(**facts, created_at=None if created_at is None else datetime.fromisoformat(created_at))
