"""`ChurnService`: `bentoml serve serving.service:ChurnService` answers from the Production model on 127.0.0.1:8000.

BentoML starts, supervises and measures the workers and answers /livez, /readyz and /metrics. `POST /predict` does not
go through a BentoML API method but through a raw ASGI route in front of BentoML's application (`endpoint.py`): an
ordinary API costs 1.3 ms of CPU a request before any model, accepts text/plain, has no limit on the body, and answers
some malformed bodies with 500; the raw route costs a tenth and refuses exactly what `requests.py` says. A `Service`
subclass puts it there, through `service_class`, which BentoML offers for that.

Belongs here: putting the parts together, the watcher thread. Does not belong here: the parts.
"""

from __future__ import annotations

import gc
import logging
import threading
from typing import TYPE_CHECKING

import bentoml
import click
from bentoml.exceptions import BentoMLConfigException

from mlops_platform.errors import SettingsError
from mlops_platform.inference_pipeline.current import CurrentModel
from mlops_platform.settings import apply_exports, load_settings
from serving.answers import LOGGER, Answerer
from serving.connections import serve_patiently, supervise_patiently
from serving.endpoint import Endpoint
from serving.gate import Gate, require_guarded
from serving.metrics import Metrics
from serving.refusal import RefusalAlert

if TYPE_CHECKING:
    from mlops_platform.settings import Settings
    from serving.endpoint import Application

POLL_SECONDS = 2.0


class FrontedService(bentoml.Service):  # type: ignore[misc]
    """A BentoML service with our routes in front, and the home's settings applied before anything is served."""

    def inject_config(self) -> None:
        """Applies the settings; BentoML calls this in the supervisor and in each worker before it serves.

        Raises:
            BentoMLConfigException: A setting can't be used.
        """
        from bentoml._internal.utils.analytics import usage_stats

        try:
            settings = load_settings()
            apply_exports(settings)
            # The command line has asked for, and kept, the answer before any of our code could run.
            usage_stats.do_not_track.cache_clear()
            super().inject_config()
            require_guarded(settings, _host())
        except SettingsError as error:
            raise BentoMLConfigException(str(error)) from error
        supervise_patiently()

    def to_asgi(self, is_main: bool = True) -> Application:
        """The application a worker runs."""
        serve_patiently()
        current = bentoml.get_current_service
        return Endpoint(super().to_asgi(is_main=is_main), lambda: current().answerer, lambda: current().gate)


def _host() -> str:
    """Where the service will listen: the command line's --host (or BENTOML_HOST), else the configuration's."""
    from bentoml._internal.configuration.containers import BentoMLContainer

    command = click.get_current_context(silent=True)
    given = command.params.get("host") if command is not None else None
    return str(given or BentoMLContainer.http.host.get())


@bentoml.service(service_class=FrontedService, workers=1, http={"host": "127.0.0.1", "port": 8000})
class ChurnService:
    """Churn predictions from the Production model, which is followed while the service runs."""

    def __init__(self) -> None:
        settings: Settings = load_settings()
        self.answerer = Answerer(settings, CurrentModel(settings), Metrics())
        self.gate = Gate.of(settings)
        self._refusal = RefusalAlert(settings)
        self._is_stopped = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="model-watcher", daemon=True)
        self._refresh()

    def __is_ready__(self) -> bool:
        return self.answerer.current.served is not None

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    def start_watching(self) -> None:
        """Begins to follow the registry."""
        # What is loaded stays: without this, collections triggered by requests look through it again and again.
        gc.collect()
        gc.freeze()
        self._watcher.start()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    def stop(self) -> None:
        """Stops following, and completes the prediction log's file."""
        self._is_stopped.set()
        self.answerer.metrics.hand_over()
        self.answerer.log.close()
        self.answerer.store.close()

    def _watch(self) -> None:
        while not self._is_stopped.wait(POLL_SECONDS):
            self._refresh()

    def _refresh(self) -> None:
        current = self.answerer.current
        change = current.refresh()
        if change is not None:
            LOGGER.log(logging.INFO if current.problem is None else logging.WARNING, change)
        self._refusal.look(current)
        self.answerer.metrics.refuses(is_refused=current.refused is not None)
        if current.served is not None:
            model = current.served.predictor.model
            self.answerer.metrics.serves(model.name, model.version)
        self.answerer.look()
