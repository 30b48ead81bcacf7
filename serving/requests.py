"""The body of `POST /predict`: bytes to checked rows, or a refusal that names everything at fault.

Belongs here: what a request must be, as pure functions of its bytes. Does not belong here: what a feature must be
(`mlops_platform.inference_pipeline.validation`), sockets, scoring.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from mlops_platform.errors import InputError

if TYPE_CHECKING:
    from mlops_platform.inference_pipeline.validation import RowSchema

MAX_BODY_BYTES = 1_000_000
MAX_ROWS = 10_000
# A refusal names so many fields; beyond, it says how many more there are.
MAX_FIELDS_NAMED = 200
_SHAPE = '{"features": {…}} or {"features": [{…}, {…}]}'


class RefusedRequestError(InputError):
    """A request that can't be answered.

    Args:
        status: HTTP status, 4xx (or 503).
        error: What is wrong with the request as a whole.
        fields: What is wrong, by field.
        headers: More headers of the answer.
    """

    def __init__(
        self,
        status: int,
        error: str,
        fields: dict[str, str] | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        self.status = status
        self.error = error
        self.fields = fields or {}
        self.headers = headers
        super().__init__(error)

    def body(self) -> dict[str, Any]:
        """The answer's body."""
        return {"error": self.error, "fields": self.fields}


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """Checked rows to score.

    Args:
        rows: One dictionary a row, with the model's features in order.
        is_list: Whether the request held a list (the answer then holds a list of pairs).
    """

    rows: list[dict[str, Any]]
    is_list: bool


def read_request(body: bytes, schema: RowSchema) -> PredictRequest:
    """Reads and checks a body.

    Raises:
        RefusedRequestError: 400 no JSON, 413 too many bytes or rows, 422 anything else that is wrong.
    """
    if len(body) > MAX_BODY_BYTES:
        raise too_large()
    return _checked(_features(_parsed(body)), schema)


def too_large() -> RefusedRequestError:
    """The refusal of a body over the limit."""
    return RefusedRequestError(413, f"the body is larger than {MAX_BODY_BYTES:,} bytes; send fewer rows a request")


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise RefusedRequestError(400, f"the body is no UTF-8 text: byte {error.start} can't be decoded") from error
    except json.JSONDecodeError as error:
        problem = f"the body is no JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        raise RefusedRequestError(400, problem) from error
    except ValueError as error:
        raise RefusedRequestError(400, f"the body is no JSON: {str(error).partition(';')[0]}") from error
    except RecursionError as error:
        raise RefusedRequestError(400, "the body is nested too deeply") from error


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _features(document: Any) -> dict[str, Any] | list[Any]:
    if not isinstance(document, dict):
        raise RefusedRequestError(422, f"the body is no object; expected {_SHAPE}")
    faults = {name: "is unknown; expected features only" for name in document if name != "features"}
    features = document.get("features")
    if "features" not in document:
        faults["features"] = f"is missing; expected {_SHAPE}"
    elif not isinstance(features, dict | list):
        faults["features"] = f"is neither an object nor a list; expected {_SHAPE}"
    elif features == []:
        faults["features"] = "is an empty list; expected at least one row"
    if faults:
        raise _unprocessable(faults)
    if isinstance(features, list) and len(features) > MAX_ROWS:
        raise RefusedRequestError(413, f"{len(features):,} rows; expected at most {MAX_ROWS:,} a request")
    assert isinstance(features, dict | list)  # noqa: S101 - checked above
    return features


def _checked(features: dict[str, Any] | list[Any], schema: RowSchema) -> PredictRequest:
    if isinstance(features, dict):
        row, faults = schema.check(features)
        if faults:
            raise _unprocessable(faults)
        return PredictRequest([row], is_list=False)
    rows, found = [], {}
    for index, item in enumerate(features):
        if isinstance(item, dict):
            row, faults = schema.check(item)
            rows.append(row)
            found.update({f"[{index}].{name}": fault for name, fault in faults.items()})
        else:
            found[f"[{index}]"] = "is no object; expected the features of one row"
        if len(found) > MAX_FIELDS_NAMED:
            break
    if found:
        raise _unprocessable(found)
    return PredictRequest(rows, is_list=True)


def _unprocessable(faults: dict[str, str]) -> RefusedRequestError:
    named = dict(list(faults.items())[:MAX_FIELDS_NAMED])
    more = f"; the first {len(named)} are named" if len(named) < len(faults) else ""
    count = "one field is" if len(faults) == 1 else f"{len(faults)} fields are"
    if more:
        count = f"more than {len(named)} fields are"
    return RefusedRequestError(422, f"{count} not as expected{more}", named)
