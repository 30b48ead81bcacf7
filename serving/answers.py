"""Answers: what the service says to a body, to `GET /model` and about itself, as bytes and a status.

Belongs here: parse, score, log, count, one after the other. Does not belong here: sockets and headers
(`endpoint.py`), the single steps (`requests.py`, `metrics.py`, `mlops_platform.inference_pipeline`).
"""

from __future__ import annotations

import json
import logging
import uuid
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any

from mlops_platform.inference_pipeline.prediction_log import PredictionLog, prediction_record
from mlops_platform.inference_pipeline.validation import RowSchema
from serving.pages import PAGE, openapi
from serving.requests import RefusedRequestError, read_request

if TYPE_CHECKING:
    from mlops_platform.inference_pipeline.current import CurrentModel, ServedModel
    from mlops_platform.settings import Settings
    from serving.metrics import Metrics

Headers = tuple[tuple[bytes, bytes], ...]
# Below "bentoml", whose logging shows it beside the server's own lines.
LOGGER = logging.getLogger("bentoml.churn")
_JSON, _HTML = b"application/json", b"text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes
    content_type: bytes = _JSON
    headers: Headers = ()


class Answerer:
    """Answers from the current model.

    Args:
        settings: The home: its time zone and spool.
        current: The model in use.
        metrics: Where it counts.
    """

    def __init__(self, settings: Settings, current: CurrentModel, metrics: Metrics) -> None:
        self.current = current
        self.metrics = metrics
        self.log = PredictionLog(settings.prediction_spool)
        self._settings, self._zone = settings, settings.zone
        self._is_log_well = True

    def predict(self, body: bytes) -> Answer:
        """Scores a body's rows, logs them, and answers as documented.

        The header `X-Prediction-Id` holds the identifier the prediction is logged under; for a list, `-0`, `-1`, … of
        each row is added to it.

        Raises:
            RefusedRequestError: The body can't be scored, or there is no model.
        """
        started = perf_counter()
        served = self._served()
        request = read_request(body, served.schema)
        scores = served.predictor.score(request.rows)
        churns, predictions = scores.probability.tolist(), scores.prediction.tolist()
        elapsed_ms = round((perf_counter() - started) * 1000, 4)

        prediction_id = f"PRED_{uuid.uuid4().hex}"
        ids = [f"{prediction_id}-{row}" for row in range(len(churns))] if request.is_list else [prediction_id]
        self._log(served, ids=ids, rows=request.rows, predictions=predictions, churns=churns, elapsed_ms=elapsed_ms)
        self.metrics.predicted(len(predictions), sum(predictions))
        pairs = [[1.0 - churn, churn] for churn in churns]
        model = served.predictor.model
        document = {
            "predictions": predictions,
            "probability": pairs if request.is_list else pairs[0],
            "model_metadata": {"name": model.name, "version": model.version, "stage": model.stage},
            "inference_time_ms": elapsed_ms,
        }
        return json_answer(200, document, ((b"x-prediction-id", prediction_id.encode()),))

    def model(self) -> Answer:
        """Describes the model in use.

        Raises:
            RefusedRequestError: There is none.
        """
        served = self._served()
        model = served.predictor.model
        document = {
            "name": model.name,
            "version": model.version,
            "stage": model.stage,
            "threshold": served.predictor.threshold,
            "training_snapshot_id": str(served.predictor.training_snapshot_id),
            "features": served.schema.describe(),
        }
        return json_answer(200, document)

    def docs(self) -> Answer:
        """The OpenAPI document; without a model, of the declared features."""
        served = self.current.served
        return json_answer(200, openapi(served.schema if served is not None else RowSchema.of(self._settings)))

    def page(self) -> Answer:
        """The page that shows the OpenAPI document."""
        return Answer(200, PAGE, _HTML)

    def _served(self) -> ServedModel:
        served = self.current.served
        if served is None:
            problem = self.current.problem or "the model is being loaded"
            raise RefusedRequestError(503, problem, headers=((b"retry-after", b"2"),))
        return served

    def _log(
        self,
        served: ServedModel,
        *,
        ids: list[str],
        rows: list[dict[str, Any]],
        predictions: list[int],
        churns: list[float],
        elapsed_ms: float,
    ) -> None:
        now = datetime.now(self._zone)
        model = served.predictor.model
        records = [
            prediction_record(
                prediction_id,
                now,
                model_name=model.name,
                model_version=model.version,
                features=row,
                prediction=prediction,
                probability=churn,
                inference_latency_ms=elapsed_ms,
            )
            for prediction_id, row, prediction, churn in zip(ids, rows, predictions, churns, strict=True)
        ]
        is_written = self.log.append(records, day=now.date())
        if not is_written:
            self.metrics.log_failed(len(records))
        if is_written != self._is_log_well:
            self._is_log_well = is_written
            words = "is written again" if is_written else "can't be written, predictions go on without it"
            LOGGER.warning("the prediction log in %s %s", self.log.folder, words)


def json_answer(status: int, document: Any, headers: Headers = ()) -> Answer:
    """A JSON answer; numbers in it must be finite."""
    return Answer(status, json.dumps(document, allow_nan=False, separators=(",", ":")).encode("ascii"), headers=headers)
