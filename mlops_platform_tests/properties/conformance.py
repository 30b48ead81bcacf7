"""Whether an answer is one that the service's own OpenAPI document allows, with finite numbers only.

Does not belong here: making requests.
"""

from __future__ import annotations

import json
import math
from functools import cache
from typing import Any

import jsonschema_rs


class Conformance:
    """What an OpenAPI document says about answers.

    Args:
        document: OpenAPI 3.0.
    """

    def __init__(self, document: dict[str, Any]) -> None:
        self.paths: dict[str, dict[str, Any]] = document["paths"]
        self._components = _plain({"components": document["components"]})
        self._validator = cache(self._made)

    def require(self, method: str, path: str, status: int, content_type: str, body: bytes) -> None:
        """Fails unless the document has this answer to this operation.

        Where it has no such operation, only a refusal in the document's form is right.
        """
        assert status < 500, (method, path, status, body[:500])
        if path not in self.paths or method == "HEAD":
            return
        operation = self.paths[path].get(method.lower())
        if operation is None:
            assert status == 405, (method, path, status)
            content = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
        else:
            assert str(status) in operation["responses"], (method, path, status, body[:500])
            content = operation["responses"][str(status)].get("content")
        if content is None:
            return
        assert content_type in content, (method, path, status, content_type)
        found = json.loads(body, parse_constant=_refused, parse_float=_finite)
        self._validator(json.dumps(content[content_type]["schema"])).validate(found)

    def _made(self, schema: str) -> Any:
        return jsonschema_rs.Draft4Validator(_plain(json.loads(schema)) | self._components)


def _plain(schema: Any) -> Any:
    """OpenAPI 3.0's way of saying "or null" in JSON Schema's."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _plain(each) for name, each in schema.items()}
    if found.pop("nullable", False):
        found["type"] = [found["type"], "null"]
    return found


def _refused(name: str) -> Any:
    raise AssertionError(f"{name} in an answer")


def _finite(text: str) -> float:
    number = float(text)
    assert math.isfinite(number), f"{text} in an answer"
    return number
