"""The model in use: the Production version, and its replacement by a newer one while the process runs.

A version is loaded, tried on a valid row and only then swapped in, by one assignment; one that can't be used leaves the
old one in place. Does not belong here: threads and waiting (the caller decides when to look), HTTP.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.errors import ModelError, PlatformError
from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.inference_pipeline.validation import RowSchema
from mlops_platform.training_pipeline.models import use_one_thread
from mlops_platform.training_pipeline.registry import MLflowManager

if TYPE_CHECKING:
    from mlops_platform.settings import Settings
    from mlops_platform.training_pipeline.registry import RegisteredModel

# A version that could not be loaded is tried again after so many looks at the registry.
RETRY_EVERY = 15
_SQLITE = "sqlite:///"
# What reading a damaged file of a zipped model raises, beside the errors the registry names itself.
_DAMAGE = (
    OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ImportError, RuntimeError, ArithmeticError,
    struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded version and the rows it takes; replaced as a whole, never changed.

    Args:
        predictor: Scores rows.
        schema: What a row must hold.
    """

    predictor: Predictor
    schema: RowSchema

    @classmethod
    def load(cls, settings: Settings, version: RegisteredModel) -> ServedModel:
        """Loads a version and tries it on a valid row.

        Raises:
            ModelError: It can't be read, holds a type we don't trust, or does not score.
        """
        try:
            predictor = Predictor.load(settings, version=version)
            schema = RowSchema.of(settings, predictor.feature_names)
            # One thread: starting a team of threads costs more than it saves below tens of thousands of rows (one row
            # 0.7 ms against up to 16 ms, 1,000 rows 6 ms against 30 ms on 2 cores), and the scores are the same bits.
            use_one_thread(predictor.pipeline["classifier"])
            probability = float(predictor.score([schema.example()]).probability[0])
        except PlatformError:
            raise
        except _DAMAGE as error:
            raise ModelError(f"can't be read ({type(error).__name__}: {error})", hint="train again.") from error
        if not 0.0 <= probability <= 1.0:
            raise ModelError(f"gives {probability} as a probability", expected="a number from 0 to 1")
        return cls(predictor, schema)


class CurrentModel:
    """Follows the registry's Production version.

    `served` is read once a request and kept for it, so that an answer names the version that made it.

    Args:
        settings: The home.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.served: ServedModel | None = None
        self.problem: str | None = None
        self._manager = MLflowManager(settings)
        self._refused: RegisteredModel | None = None
        self._looks_to_skip = 0

    def refresh(self) -> str | None:
        """Looks at the registry once and takes over a new Production version.

        Returns:
            What changed, in one line; None when nothing did.
        """
        before = self.problem
        try:
            version = self._production()
            taken = self._take(version) if version is not None else None
        except PlatformError as error:
            self.problem = str(error)
            return None if self.problem == before else self.problem
        if taken is not None:
            self.problem = None
        return taken

    def _production(self) -> RegisteredModel | None:
        """The Production version if it is another one than is served and worth trying, else None."""
        from mlflow.exceptions import MlflowException

        uri = self.settings.tracking_uri
        if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).is_file():
            # Connecting would make an empty database, by a process that only reads.
            raise ModelError(
                f"no model has been trained yet: {uri} does not exist",
                hint="`mlops demo`, or `mlops train` on your own data.",
            )
        try:
            version = self._manager.production(self.settings.model_name)
        except MlflowException as error:
            raise ModelError(f"the model registry does not answer: {str(error).splitlines()[0]}") from error
        served = self.served.predictor.model if self.served is not None else None
        if served is not None and _identity(served) == _identity(version):
            self.problem = None
            return None
        if self._refused is not None and _identity(self._refused) == _identity(version) and self._looks_to_skip:
            self._looks_to_skip -= 1
            return None
        return version

    def _take(self, version: RegisteredModel) -> str:
        try:
            served = ServedModel.load(self.settings, version)
        except PlatformError as error:
            self._refused, self._looks_to_skip = version, RETRY_EVERY
            kept = self.served.predictor.model.version if self.served is not None else None
            stays = "no model is served" if kept is None else f"version {kept} stays"
            raise ModelError(f"{version.name} version {version.version} is not used, {stays}: {error}") from error
        self._refused, self.served = None, served
        return f"{version.name} version {version.version} is served"


def _identity(version: RegisteredModel) -> tuple[str, str, str]:
    return version.name, version.version, version.run_id
