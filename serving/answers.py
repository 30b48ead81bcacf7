"""Answers: what the service says to a body, to `GET /model` and about itself, as bytes and a status.

Belongs here: parse, score, log, count, one after the other. Does not belong here: sockets and headers
(`endpoint.py`), the single steps (`requests.py`, `metrics.py`, `mlops_platform.inference_pipeline`).
"""

from __future__ import annotations

import logging
import math
import secrets
from dataclasses import dataclass
from datetime import datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any

import msgspec

from mlops_platform.errors import ModelError, StorageError
from mlops_platform.inference_pipeline.online_store import open_store
from mlops_platform.inference_pipeline.prediction_log import (
    PredictionLog,
    customer_names,
    prediction_record,
    timestamp_of,
)
from mlops_platform.inference_pipeline.spool import backlog
from mlops_platform.inference_pipeline.typed_rows import TypedRows
from mlops_platform.inference_pipeline.validation import RowSchema
from serving.pages import PAGE, openapi
from serving.requests import PredictRequest, RefusedRequestError, read_request, unprocessable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from msgspec import Struct

    from mlops_platform.inference_pipeline.current import CurrentModel, ServedModel
    from mlops_platform.inference_pipeline.explain import Contributions
    from mlops_platform.settings import Settings
    from serving.metrics import Metrics

Headers = tuple[tuple[bytes, bytes], ...]
# Below "bentoml", whose logging shows it beside the server's own lines.
LOGGER = logging.getLogger("bentoml.churn")
# 200 rows or so: parsing, scoring and logging them takes 2 ms.
INLINE_BYTES = 262_144
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
        settings: The home: its time zone, spool and online store.
        current: The model in use.
        metrics: Where it counts.
    """

    def __init__(self, settings: Settings, current: CurrentModel, metrics: Metrics) -> None:
        self.current = current
        self.metrics = metrics
        self.log = PredictionLog(settings.prediction_spool)
        self.store = open_store(settings)
        self._settings, self._zone = settings, settings.zone
        self._is_log_well = True

    def predict(self, body: bytes) -> Answer:
        """Scores a body's rows, logs them, and answers as documented.

        The header `X-Prediction-Id` holds the identifier the prediction is logged under; for a list, `-0`, `-1`, … of
        each row is added to it.

        Raises:
            RefusedRequestError: The body can't be scored, or there is no model.
        """
        return self._answer(body, is_explained=False)

    def explain(self, body: bytes) -> Answer:
        """As `predict`, and what each feature adds to each row's log-odds of churning.

        Raises:
            RefusedRequestError: As for `predict`; 501 where the model has no exact contributions.
        """
        return self._answer(body, is_explained=True)

    def _answer(self, body: bytes, *, is_explained: bool) -> Answer:
        started = perf_counter()
        served = self._served()
        request = read_request(body, served.schema)
        rows = request.rows if request.customers is None else self._looked_up(request, served.schema)
        columns = TypedRows(rows)
        explained = _explained(served, columns) if is_explained else {}
        scores = served.predictor.score(columns)
        churns, predictions = scores.probability.tolist(), scores.prediction.tolist()
        if not math.isfinite(sum(churns)):
            raise RefusedRequestError(503, "the model has no number for a row of this request")
        elapsed_ms = round((perf_counter() - started) * 1000, 4)

        prediction_id = f"PRED_{secrets.token_hex(16)}"
        ids = [f"{prediction_id}-{row}" for row in range(len(churns))] if request.is_list else [prediction_id]
        scored = _Scored(ids, rows, request.customers, predictions, churns, elapsed_ms)
        self._log(served, scored)
        self.metrics.predicted(predictions, churns)
        pairs = [[1.0 - churn, churn] for churn in churns]
        model = served.predictor.model
        document = {
            "predictions": predictions,
            "probability": pairs if request.is_list else pairs[0],
            "model_metadata": {"name": model.name, "version": model.version, "stage": model.stage},
            "inference_time_ms": elapsed_ms,
        }
        return json_answer(200, document | explained, ((b"x-prediction-id", prediction_id.encode()),))

    def model(self) -> Answer:
        """Describes the model in use, and the online store.

        Raises:
            RefusedRequestError: There is no model.
        """
        served = self._served()
        predictor = served.predictor
        document = {
            "name": predictor.model.name,
            "version": predictor.model.version,
            "stage": predictor.model.stage,
            "loaded_from": self.current.source,
            "scoring": predictor.scoring,
            "fallback_reason": predictor.fallback_reason,
            "threshold": predictor.threshold,
            "training_snapshot_id": str(predictor.training_snapshot_id),
            "training": dict(predictor.facts),
            "online_store": self._store_facts(),
            "features": served.schema.describe(),
        }
        return json_answer(200, document)

    def takes_long(self, body: bytes) -> bool:
        """Whether answering takes milliseconds: many rows, or customers whose rows Redis has."""
        return len(body) > INLINE_BYTES or (self.store.kind == "redis" and b'"customer_id"' in body)

    def look(self) -> None:
        """Brings the metrics of what lies in the home up to date."""
        self.metrics.hand_over()
        self.metrics.waits(*backlog(self._settings.prediction_spool))
        facts = self._store_facts()
        if facts is not None and "age_days" in facts:
            self.metrics.store_lags(self.store.kind, facts["age_days"])

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

    def _looked_up(self, request: PredictRequest, schema: RowSchema) -> list[Struct]:
        """The customers' rows.

        Raises:
            RefusedRequestError: 404, a customer is unknown; 503, the store is missing, damaged or of other features.
        """
        customers = request.customers or []
        try:
            found = self.store.rows(customers)
        except StorageError as error:
            raise RefusedRequestError(503, str(error)) from error
        rows: list[Struct] = []
        unknown = {}
        for index, features in enumerate(found):
            if features is None:
                unknown[f"[{index}].customer_id" if request.is_list else "customer_id"] = (
                    "has no features yet: it is new since the last daily job, or mistyped; send its features instead"
                )
                continue
            row, faults = schema.check({name: features[name] for name in schema.names if name in features})
            if faults:
                name, fault = next(iter(faults.items()))
                raise RefusedRequestError(503, f"the online store does not fit the model: {name} {fault}")
            rows.append(schema.row_type(**row))
        if unknown:
            raise unprocessable(unknown, status=404)
        return rows

    def _store_facts(self) -> dict[str, Any] | None:
        try:
            state = self.store.state()
        except StorageError as error:
            return {"problem": str(error)}
        if state is None:
            return None
        age = state.age_days(datetime.now(self._zone).date())
        return {
            "feature_date": state.feature_date.isoformat(),
            "customers": state.customers,
            "age_days": age,
            "is_stale": age >= self._settings.online_store_days,
        }

    def _log(self, served: ServedModel, scored: _Scored) -> None:
        now = datetime.now(self._zone)
        records = self._records(served, scored, now)
        is_written = records is not None and self.log.append(records, day=now.date())
        if not is_written:
            self.metrics.log_failed(len(scored.rows))
        if is_written != self._is_log_well:
            self._is_log_well = is_written
            words = "is written again" if is_written else "can't be written, predictions go on without it"
            LOGGER.warning("the prediction log in %s %s", self.log.folder, words)

    def _records(self, served: ServedModel, scored: _Scored, now: datetime) -> list[dict[str, Any]] | None:
        """The log's records; None where a customer has no name there because the key can't be read."""
        names: Sequence[str | None] = [None] * len(scored.rows)
        if scored.customers is not None:
            known = customer_names(self._settings, scored.customers)
            if known is None:
                return None
            names = known
        model = served.predictor.model
        timestamp = timestamp_of(now)
        each = zip(scored.ids, scored.rows, scored.predictions, scored.churns, names, strict=True)
        return [
            prediction_record(
                prediction_id,
                timestamp,
                model_name=model.name,
                model_version=model.version,
                features=row,
                prediction=prediction,
                probability=churn,
                inference_latency_ms=scored.elapsed_ms,
                customer_hmac=name,
            )
            for prediction_id, row, prediction, churn, name in each
        ]


@dataclass(frozen=True, slots=True)
class _Scored:
    """What is logged of a request, row by row."""

    ids: list[str]
    rows: list[Struct]
    customers: list[str] | None
    predictions: list[int]
    churns: list[float]
    elapsed_ms: float


def _explained(served: ServedModel, rows: TypedRows) -> dict[str, Any]:
    """The members that `/explain` adds to an answer.

    Raises:
        RefusedRequestError: 501, the model has no exact contributions.
    """
    try:
        found: Contributions = served.predictor.explain(rows)
    except ModelError as error:
        raise RefusedRequestError(501, str(error)) from error
    names = served.predictor.feature_names
    return {
        "contributions": [dict(zip(names, values, strict=True)) for values in found.values.tolist()],
        "base": found.base,
        "margin": found.margins.tolist(),
    }


def json_answer(status: int, document: Any, headers: Headers = ()) -> Answer:
    """A JSON answer."""
    return Answer(status, msgspec.json.encode(document), headers=headers)
