"""Files that stand beside a model in its MLflow run: its serving form, and the environment it was fitted in.

Does not belong here: the model's own file (`model_files.py`), the report of its evaluation (`report.py`).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlops_platform.training_pipeline.serving_form import SERVING_PATH, is_equal, load, save, serving_form

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_platform.training_pipeline.registry import MLflowManager


def log_serving_form(manager: MLflowManager, run_id: str, pipeline: Any, sample: pa.Table) -> None:
    """Keeps the serving form, if the model has one and the file gives the Pipeline's bits on the sample."""
    form = serving_form(pipeline)
    if form is None:
        return
    with TemporaryDirectory() as folder:
        save(form, Path(folder))
        if is_equal(load(Path(folder)), pipeline, sample):
            manager.client.log_artifacts(run_id, folder, SERVING_PATH)


@cache
def environment() -> str:
    """Every installed package with its version, as a requirements file: what the lock pinned."""
    from importlib.metadata import distributions

    described = (each.metadata for each in distributions())  # Each look at it reads the file again.
    found = {(each["Name"].lower(), each["Version"]) for each in described}
    return "".join(f"{name}=={version}\n" for name, version in sorted(found))
