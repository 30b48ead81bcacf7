"""The body of `POST /predict` and `/explain`: bytes to checked rows, or a refusal that names everything at fault.

Belongs here: what a request must be, as pure functions of its bytes. Does not belong here: what a feature must be
(`mlops_platform.inference_pipeline.validation`), sockets, scoring.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from msgspec import MsgspecError

from mlops_platform.errors import InputError
from mlops_platform.inference_pipeline.typed_rows import body_decoder
from mlops_platform.inference_pipeline.validation import is_encodable

if TYPE_CHECKING:
    from msgspec import Struct

    from mlops_platform.inference_pipeline.validation import RowSchema

MAX_BODY_BYTES = 1_000_000
MAX_ROWS = 10_000
# A list of these is short text that stands for many rows: it must not hold up others.
MAX_CUSTOMERS = 1_000
# A refusal names so many fields; beyond, it says how many more there are.
MAX_FIELDS_NAMED = 200
_SHAPE = '{"features": {…}} or {"features": [{…}, {…}]}'
_CUSTOMER_SHAPE = '{"customer_id": "…"} or {"customer_id": ["…", "…"]}'
_MEMBERS = ("features", "customer_id")
_decoder = lru_cache(maxsize=4)(body_decoder)


class RefusedRequestError(InputError):
    """A request that can't be answered.

    Args:
        status: HTTP status: 4xx, 501 or 503.
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
    """Checked rows to score, or the customers whose rows are to be looked up.

    Args:
        rows: Rows of the schema's type; empty where customers are named.
        is_list: Whether the request held a list (the answer then holds a list of pairs).
        customers: The customers named; None where features were given.
    """

    rows: list[Struct]
    is_list: bool
    customers: list[str] | None = None


def read_request(body: bytes, schema: RowSchema) -> PredictRequest:
    """Reads and checks a body.

    Raises:
        RefusedRequestError: 400 no JSON, 413 too many bytes or rows, 422 anything else that is wrong.
    """
    if len(body) > MAX_BODY_BYTES:
        raise too_large()
    try:
        features = _decoder(schema.row_type, MAX_ROWS)(body).features
        return PredictRequest(features, True) if isinstance(features, list) else PredictRequest([features], False)
    except (MsgspecError, RecursionError, UnicodeDecodeError):
        # Wrong, or only not as usual (`3.0` for an integer, customers): read again by what can say which.
        document = _members(_parsed(body))
    if "customer_id" in document:
        return _customers(document["customer_id"])
    return _checked(_features(document["features"]), schema)


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


def _members(document: Any) -> dict[str, Any]:
    """The body, which holds one of its two members and nothing else."""
    if not isinstance(document, dict):
        raise RefusedRequestError(422, f"the body is no object; expected {_SHAPE}, or {_CUSTOMER_SHAPE}")
    faults = {name: "is unknown; expected features only" for name in document if name not in _MEMBERS}
    if all(name in document for name in _MEMBERS):
        faults["customer_id"] = "stands beside features; expected one of them"
    elif not any(name in document for name in _MEMBERS):
        faults["features"] = f"is missing; expected {_SHAPE}, or {_CUSTOMER_SHAPE}"
    if faults:
        raise unprocessable(faults)
    return document


def _features(features: Any) -> dict[str, Any] | list[Any]:
    if not isinstance(features, dict | list):
        raise unprocessable({"features": f"is neither an object nor a list; expected {_SHAPE}"})
    if not features and isinstance(features, list):
        raise unprocessable({"features": "is an empty list; expected at least one row"})
    if isinstance(features, list) and len(features) > MAX_ROWS:
        raise RefusedRequestError(413, f"{len(features):,} rows; expected at most {MAX_ROWS:,} a request")
    return features


def _customers(found: Any) -> PredictRequest:
    customers = found if isinstance(found, list) else [found]
    if not customers:
        raise unprocessable({"customer_id": "is an empty list; expected at least one customer"})
    if len(customers) > MAX_CUSTOMERS:
        raise RefusedRequestError(413, f"{len(customers):,} customers; expected at most {MAX_CUSTOMERS:,} a request")
    is_list = isinstance(found, list)
    faults = {
        f"[{index}].customer_id" if is_list else "customer_id": f"is no text; expected {_CUSTOMER_SHAPE}"
        for index, name in enumerate(customers)
        if not (isinstance(name, str) and name.strip() and is_encodable(name))
    }
    if faults:
        raise unprocessable(faults)
    return PredictRequest([], is_list, customers)


def _checked(features: dict[str, Any] | list[Any], schema: RowSchema) -> PredictRequest:
    if isinstance(features, dict):
        row, faults = schema.check(features)
        if faults:
            raise unprocessable(faults)
        return PredictRequest([schema.row_type(**row)], is_list=False)
    rows: list[Struct] = []
    found: dict[str, str] = {}
    for index, item in enumerate(features):
        if isinstance(item, dict):
            row, faults = schema.check(item)
            if not faults:
                rows.append(schema.row_type(**row))
            found.update({f"[{index}].{name}": fault for name, fault in faults.items()})
        else:
            found[f"[{index}]"] = "is no object; expected the features of one row"
        if len(found) > MAX_FIELDS_NAMED:
            break
    if found:
        raise unprocessable(found)
    return PredictRequest(rows, is_list=True)


def unprocessable(faults: dict[str, str], status: int = 422) -> RefusedRequestError:
    """The refusal of a body whose members are not as expected; it names so many of them, and counts the rest."""
    named = dict(list(faults.items())[:MAX_FIELDS_NAMED])
    more = f"; the first {len(named)} are named" if len(named) < len(faults) else ""
    count = "one field is" if len(faults) == 1 else f"{len(faults)} fields are"
    if more:
        count = f"more than {len(named)} fields are"
    return RefusedRequestError(status, f"{count} not as expected{more}", named)
