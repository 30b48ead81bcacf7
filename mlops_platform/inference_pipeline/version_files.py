"""A version's files on this machine, and that they are the ones that were recorded when it was trained.

Does not belong here: reading a model from them (`predictor.py`), keeping them (`model_cache.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import ModelError
from mlops_platform.training_pipeline.model_digest import (
    FILES_DIGEST_TAG,
    MODEL_FILES,
    PIPELINE_FILE,
    SERVING_FILES,
    files_digest,
)
from mlops_platform.training_pipeline.serving_form import SERVING_PATH
from mlops_platform.training_pipeline.stages import require_servable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlops_platform.training_pipeline.registry import MLflowManager, RegisteredModel


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """A version and its files.

    Args:
        model: Its registry entry.
        run_tags: Tags of the run that trained it.
        folder: Holds the files under the paths they have in the run.
    """

    model: RegisteredModel
    run_tags: Mapping[str, str]
    folder: Path

    @property
    def has_serving_form(self) -> bool:
        """Whether all files of the serving form are there."""
        return all((self.folder / name).is_file() for name in SERVING_FILES)

    @property
    def serving_form_folder(self) -> Path:
        """Where the files of the serving form are."""
        return self.folder / SERVING_PATH

    def pipeline(self) -> Any:
        """The fitted Pipeline, of the types fixed in our code only.

        Raises:
            ModelError: The file can't be read, or holds a type we don't trust.
        """
        from mlops_platform.training_pipeline.model_files import read_model

        return read_model(self.folder / PIPELINE_FILE, self.model.run_id)

    def require_untouched(self) -> None:
        """Holds the files against the digest that the run and the version carry; older ones carry none.

        Raises:
            ModelError: They are others.
        """
        recorded = {tags[FILES_DIGEST_TAG] for tags in (self.run_tags, self.model.tags) if FILES_DIGEST_TAG in tags}
        if recorded and recorded != {found := files_digest(self.folder)}:
            raise ModelError(
                f"the files of version {self.model.version} of {self.model.name} were tampered with or damaged: their "
                f"SHA-256 is {found[:12]}…",
                expected=f"{' and '.join(f'{digest[:12]}…' for digest in sorted(recorded))}, recorded in MLflow",
                hint="restore the run's files, put the version before back into Production, or train again.",
            )


def fetch(manager: MLflowManager, model: RegisteredModel, folder: Path) -> VersionFiles:
    """Copies a version's files into a folder; nothing of them is read.

    Raises:
        ModelError: The version was trained on rows of a query, or its run or model is not there or can't be had now.
    """
    from mlflow.exceptions import MlflowException

    require_servable(model)
    client, run_id = manager.client, model.run_id
    try:
        run_tags = dict(client.get_run(run_id).data.tags)
        forms = {file.path for file in client.list_artifacts(run_id, SERVING_PATH)}
        for name in (PIPELINE_FILE, *(name for name in MODEL_FILES if name in forms)):
            beside = (folder / name).parent
            beside.mkdir(exist_ok=True)
            client.download_artifacts(run_id, name, str(beside))
    except (MlflowException, OSError) as error:
        raise ModelError(
            f"the model of run {run_id} can't be fetched: {str(error).splitlines()[0]}",
            expected=f"the run, with the file {PIPELINE_FILE}",
            hint="see that the model store can be reached; if the file is gone, train again.",
        ) from error
    return VersionFiles(model, run_tags, folder)
