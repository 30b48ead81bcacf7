"""The digest of a model's files, recorded when it is trained: whoever loads them later knows that they are the same.

`MODEL_HASH_TAG` (train.py) is of the fitted model in memory, and can't be computed again from files. Does not belong
here: writing the files (`model_files.py`, `serving_form.py`), refusing them (`inference_pipeline`).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from mlops_platform.training_pipeline.registry import MODEL_FILE, MODEL_PATH
from mlops_platform.training_pipeline.serving_form import SERVING_PATH

if TYPE_CHECKING:
    from pathlib import Path

FILES_DIGEST_TAG = "mlops.files-sha256"
PIPELINE_FILE = f"{MODEL_PATH}/{MODEL_FILE}"
SERVING_FILES = (f"{SERVING_PATH}/booster.ubj", f"{SERVING_PATH}/model.json")
# Versions from before there was a form for few rows lack it.
FEW_ROWS_FILE = f"{SERVING_PATH}/trees.onnx"
MODEL_FILES = (PIPELINE_FILE, *SERVING_FILES, FEW_ROWS_FILE)


def files_digest(folder: Path) -> str:
    """SHA-256 over a model's files, as hexadecimal digits; one that is not there counts as much as one that differs.

    By hand, with those of the files that there are:
    `sha256sum model/model.skops serving/booster.ubj serving/model.json serving/trees.onnx | sha256sum`.

    Args:
        folder: Holds the files under the paths they have in the model's run.

    Raises:
        OSError: A file can't be read.
    """
    listing = hashlib.sha256()
    for name in MODEL_FILES:
        path = folder / name
        if path.is_file():
            with path.open("rb") as file:
                listing.update(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {name}\n".encode())
    return listing.hexdigest()
