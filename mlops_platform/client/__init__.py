"""A client of the prediction service: `ChurnClient("http://127.0.0.1:8000").predict(features)`.

It waits no longer than told, and tries again where nothing was answered or the service asked to come again later. Does
not belong here: what the service does, and anything else of the platform: this needs httpx only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx

from mlops_platform.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

# 503 and 429 come before anything was scored, and so does a connection that was not made: asking again is safe.
_LATER = {429, 503}
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.1, 30.0


class ClientError(PlatformError):
    """The service refused a request, or does not answer.

    Args:
        problem: The service's message, or what kept it from answering.
        status: The HTTP status; None if there was no answer.
        fields: What is wrong, by field.
    """

    def __init__(self, problem: str, *, status: int | None = None, fields: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.fields = dict(fields or {})
        named = "; ".join(f"{name} {fault}" for name, fault in self.fields.items())
        super().__init__(f"{problem.rstrip('.')}: {named}" if named else problem)


@dataclass(frozen=True, slots=True)
class Prediction:
    """One row's answer.

    Args:
        prediction: 1: churns, at or above the model's threshold.
        probability: Chance of churn.
        model_name: Name in the model registry.
        model_version: The version that answered.
        prediction_id: Identifier in the prediction log.
    """

    prediction: int
    probability: float
    model_name: str
    model_version: str
    prediction_id: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """One row's answer, and what it is made of: base and contributions add up to the margin.

    Args:
        prediction: The answer.
        contributions: What each feature adds to the log-odds of churning.
        base: Log-odds before any feature is looked at.
        margin: Log-odds of the answered probability.
    """

    prediction: Prediction
    contributions: dict[str, float]
    base: float
    margin: float


class ChurnClient:
    """Asks a prediction service. A context manager; threads may share one.

    Args:
        base_url: Such as http://127.0.0.1:8000.
        token: The service's bearer token, if it has one.
        timeout: Seconds to wait for a connection, and for an answer.
        retries: Times to ask again where the service does not listen (yet), or answers 503 or 429.
        transport: How requests travel; None: over the network.
        sleep: Waits so many seconds.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        token: str | None = None,
        *,
        timeout: float = 10.0,
        retries: int = 4,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        self._http = httpx.Client(base_url=base_url, headers=headers, timeout=timeout, transport=transport)
        self._retries, self._sleep = retries, sleep

    def predict(self, features: Mapping[str, Any]) -> Prediction:
        """Predicts one row of features.

        Raises:
            ClientError: The service refuses it, or does not answer.
        """
        return self._predictions({"features": dict(features)})[0]

    def predict_many(self, rows: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Predicts rows of features, in their order.

        Raises:
            ClientError: The service refuses one, or does not answer.
        """
        return self._predictions({"features": [dict(row) for row in rows]})

    def predict_customer(self, customer_id: str) -> Prediction:
        """Predicts a customer by its latest features.

        Raises:
            ClientError: The service does not know it (status 404), or does not answer.
        """
        return self._predictions({"customer_id": customer_id})[0]

    def explain(self, features: Mapping[str, Any]) -> Explanation:
        """Predicts one row, and says what each feature adds.

        Raises:
            ClientError: The service refuses it, has no exact contributions (status 501), or does not answer.
        """
        return self._explanation({"features": dict(features)})

    def explain_customer(self, customer_id: str) -> Explanation:
        """Predicts a customer by its latest features, and says what each adds.

        Raises:
            ClientError: As for `explain` and `predict_customer`.
        """
        return self._explanation({"customer_id": customer_id})

    def model(self) -> dict[str, Any]:
        """What `GET /model` says of the model that answers.

        Raises:
            ClientError: There is none, or the service does not answer.
        """
        found: dict[str, Any] = self._asked("GET", "/model").json()
        return found

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> ChurnClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _predictions(self, body: dict[str, Any]) -> list[Prediction]:
        return _read(self._asked("POST", "/predict", body))

    def _explanation(self, body: dict[str, Any]) -> Explanation:
        response = self._asked("POST", "/explain", body)
        found = response.json()
        return Explanation(_read(response)[0], found["contributions"][0], found["base"], found["margin"][0])

    def _asked(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        """The answer to a request, after as many tries as it takes and are allowed."""
        for again in range(self._retries, -1, -1):
            wait = min(_FIRST_WAIT_SECONDS * 2 ** (self._retries - again), _LONGEST_WAIT_SECONDS)
            try:
                response = self._http.request(method, path, json=body)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                if not again:
                    raise self._unanswered(error) from error
            except (httpx.TransportError, TypeError, ValueError) as error:
                raise self._unanswered(error) from error
            else:
                if response.status_code not in _LATER or not again:
                    return _required(response)
                wait = max(wait, _retry_after(response))
            self._sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _unanswered(self, error: Exception) -> ClientError:
        return ClientError(f"{self._http.base_url} does not answer: {type(error).__name__}: {error}")


def _retry_after(response: httpx.Response) -> float:
    told = response.headers.get("retry-after", "")
    return min(float(told), _LONGEST_WAIT_SECONDS) if told.isdecimal() else 0.0


def _required(response: httpx.Response) -> httpx.Response:
    """The response if it is a good one.

    Raises:
        ClientError: It is not.
    """
    if response.is_success:
        return response
    try:
        found = response.json()
        problem, fields = found["error"], found.get("fields")
    except (ValueError, LookupError, TypeError, AttributeError):
        problem, fields = f"HTTP {response.status_code} {response.reason_phrase}", None
    raise ClientError(problem, status=response.status_code, fields=fields)


def _read(response: httpx.Response) -> list[Prediction]:
    found = response.json()
    model, logged = found["model_metadata"], response.headers["x-prediction-id"]
    is_list = isinstance(found["probability"][0], list)
    pairs = found["probability"] if is_list else [found["probability"]]
    ids = [f"{logged}-{row}" for row in range(len(pairs))] if is_list else [logged]
    return [
        Prediction(prediction, pair[1], model["name"], model["version"], prediction_id)
        for prediction, pair, prediction_id in zip(found["predictions"], pairs, ids, strict=True)
    ]
