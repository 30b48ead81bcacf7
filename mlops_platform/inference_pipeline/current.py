"""The model in use: the Production version, and its replacement by a newer one while the process runs.

A version is fetched, held against its recorded digest, tried on made-up rows and only then swapped in, by one
assignment; one that can't be used leaves the old one in place. A process that starts while the registry or the model
store can't be reached serves the last known good model until they are back. Does not belong here: threads and waiting
(the caller decides when to look), HTTP.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from mlops_platform.errors import ModelError, PlatformError, StorageError
from mlops_platform.inference_pipeline.model_cache import keep, restore
from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.inference_pipeline.validation import RowSchema
from mlops_platform.inference_pipeline.version_files import fetch
from mlops_platform.training_pipeline.registry import MLflowManager

if TYPE_CHECKING:
    from mlops_platform.inference_pipeline.version_files import VersionFiles
    from mlops_platform.settings import Settings
    from mlops_platform.training_pipeline.registry import RegisteredModel

Source = Literal["registry", "cache"]

# A version that could not be loaded is tried again after so many looks at the registry.
RETRY_EVERY = 15
_SQLITE = "sqlite:///"
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306}
_CONNECT_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded version and the rows it takes; replaced as a whole, never changed.

    Args:
        predictor: Scores rows.
        schema: What a row must hold.
        source: Where it was loaded from.
    """

    predictor: Predictor
    schema: RowSchema
    source: Source = "registry"

    @classmethod
    def read(cls, settings: Settings, files: VersionFiles, source: Source = "registry") -> ServedModel:
        """Loads a version from its files and tries it.

        Raises:
            ModelError: It can't be read, holds a type we don't trust, is not what was recorded, or does not score.
        """
        predictor = Predictor.read(settings, files)
        # One thread: starting a team of threads costs more than it saves below tens of thousands of rows (one row
        # 0.7 ms against up to 16 ms, 1,000 rows 6 ms against 30 ms on 2 cores), and the scores are the same bits.
        predictor.use_one_thread()
        return cls(predictor, RowSchema.of(settings, predictor.feature_names), source)


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
        self._may_use_cache = True

    @property
    def refused(self) -> RegisteredModel | None:
        """The Production version, where it is not the one served because it can't be used."""
        return self._refused if self.problem is not None else None

    @property
    def source(self) -> Source:
        """Where the served model was loaded from."""
        return self.served.source if self.served is not None else "registry"

    def refresh(self) -> str | None:
        """Looks at the registry once and takes over a new Production version.

        Returns:
            What changed, in one line; None when nothing did.
        """
        try:
            version = self._production()
        except StorageError as error:
            return self._goes_on(error)
        except ModelError as error:
            # The registry answers: nothing is in Production, so a model kept from before must not be served either.
            return self._has_problem(str(error))
        if self.served is not None and self.source == "registry" and _identity(self._model) == _identity(version):
            self.problem = None
            return None
        if self._refused is not None and _identity(self._refused) == _identity(version) and self._looks_to_skip:
            self._looks_to_skip -= 1
            return None
        try:
            return self._take(version)
        except PlatformError as error:
            self._refused, self._looks_to_skip = version, RETRY_EVERY
            return self._goes_on(error, version)

    @property
    def _model(self) -> RegisteredModel | None:
        return self.served.predictor.model if self.served is not None else None

    def _production(self) -> RegisteredModel:
        """The Production version.

        Raises:
            StorageError: The registry can't be reached.
            ModelError: No version is in Production.
        """
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        uri = self.settings.tracking_uri
        if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).is_file():
            # Connecting would make an empty database, by a process that only reads.
            raise StorageError(
                f"no model has been trained yet: {uri} does not exist",
                hint="`mlops demo`, or `mlops train` on your own data.",
            )
        _require_listener(uri)
        try:
            return self._manager.production(self.settings.model_name)
        except (MlflowException, SQLAlchemyError, OSError) as error:
            raise StorageError(f"the model registry does not answer: {str(error).splitlines()[0]}") from error

    def _take(self, version: RegisteredModel) -> str:
        with TemporaryDirectory() as folder:
            files = fetch(self._manager, version, Path(folder))
            self.served = ServedModel.read(self.settings, files)
            self._refused, self.problem = None, None
            taken = f"{version.name} version {version.version} is served"
            try:
                keep(self.settings, files)
            except StorageError as error:
                return f"{taken}, but not kept for a start without the registry: {error}"
            return taken

    def _goes_on(self, error: PlatformError, refused: RegisteredModel | None = None) -> str | None:
        """Goes on with the served model, or with the last known good one."""
        problem = str(error)
        if self.served is None and self._may_use_cache:
            self._may_use_cache = False
            try:
                self.served = self._kept()
            except PlatformError as damage:
                problem = f"{problem} {damage}"
        if refused is not None:
            problem = f"{refused.name} version {refused.version} is not used, {self._goes_on_with()}: {problem}"
        elif self.source == "cache":
            problem = f"{problem} {self._goes_on_with()}."
        return self._has_problem(problem)

    def _goes_on_with(self) -> str:
        if self._model is None:
            return "no model is served"
        version = self._model.version
        return (
            f"version {version} stays" if self.source == "registry" else f"version {version} is served from the cache"
        )

    def _kept(self) -> ServedModel | None:
        with TemporaryDirectory() as folder:
            files = restore(self.settings, Path(folder))
            return ServedModel.read(self.settings, files, "cache") if files is not None else None

    def _has_problem(self, problem: str) -> str | None:
        is_new, self.problem = problem != self.problem, problem
        return problem if is_new else None


def _require_listener(uri: str) -> None:
    """Refuses an address where nobody listens: MLflow itself would go on asking for two minutes.

    One without a host, of an unknown kind or behind a proxy passes.

    Raises:
        StorageError: Nobody does.
    """
    parts = urlsplit(uri)
    port = parts.port or _PORTS.get(parts.scheme.partition("+")[0])
    if not parts.hostname or port is None or (parts.scheme in getproxies() and not proxy_bypass(parts.hostname)):
        return
    try:
        socket.create_connection((parts.hostname, port), _CONNECT_SECONDS).close()
    except OSError as error:
        raise StorageError(f"the model registry does not answer at {parts.hostname}:{port}: {error}") from error


def _identity(version: RegisteredModel | None) -> tuple[str, str, str] | None:
    return (version.name, version.version, version.run_id) if version is not None else None
