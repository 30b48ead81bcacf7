"""The service's OpenAPI document and the page that shows it.

BentoML's own page asks Google and image hosts from the reader's browser and can't describe a raw route, so the service
has its own, drawn by the Swagger UI that BentoML ships. Does not belong here: answering requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_platform.inference_pipeline.validation import RowSchema

API_VERSION = "1.0"
PAGE = b"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Churn predictions</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="./static_content/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<script src="./static_content/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({url: "./docs.json", dom_id: "#page", deepLinking: true, validatorUrl: null});
</script>
</body>
</html>
"""


def openapi(schema: RowSchema) -> dict[str, Any]:
    """The OpenAPI 3.0 document.

    Args:
        schema: The features a row must hold.
    """
    row = {
        "type": "object",
        "additionalProperties": False,
        "required": [column.name for column in schema.columns],
        "properties": {fact["name"]: _property(fact) for fact in schema.describe()},
    }
    schemas = {"Features": row, "Refusal": _REFUSAL, "Answer": _ANSWER, "Explained": _EXPLAINED, "Model": _MODEL}
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Churn predictions",
            "version": API_VERSION,
            "description": "Answers from the model in Production. Every answered prediction is logged. A service with "
            "a token asks for it everywhere but at health and metrics.",
        },
        "servers": [{"url": "."}],
        "paths": {
            "/predict": {"post": _scoring("predict", _PREDICT, "Answer", schema.example(), _REFUSALS)},
            "/explain": {"post": _scoring("explain", _EXPLAIN, "Explained", schema.example(), _REFUSALS | _NO_EXACT)},
            "/model": {"get": _get("The model that answers: version, training, features; the online store.", "Model")},
            "/livez": {"get": _get("Whether the process lives.")},
            "/healthz": {"get": _get("The same.")},
            "/readyz": {"get": _get("Whether a model is loaded; 503 if not.")},
            "/metrics": {"get": _get("Prometheus metrics.")},
        },
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        # The empty one: without a token of its own the service asks for none.
        "security": [{"token": []}, {}],
    }


_PREDICT = "Chance that a customer makes no purchase in the horizon, for one row or a list of rows."
_EXPLAIN = "The same, and what each feature adds to the log-odds of it."
_PAIR = {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}, "minItems": 2, "maxItems": 2}
_ANSWER = {
    "type": "object",
    "required": ["predictions", "probability", "model_metadata", "inference_time_ms"],
    "properties": {
        "predictions": {
            "type": "array",
            "items": {"type": "integer", "enum": [0, 1]},
            "description": "1: churns, at or above the model's threshold; one a row",
        },
        "probability": {
            "oneOf": [_PAIR, {"type": "array", "items": _PAIR}],
            "description": "[stays, churns]; for a list of rows a list of such pairs",
        },
        "model_metadata": {
            "type": "object",
            "properties": {name: {"type": "string"} for name in ("name", "version", "stage")},
        },
        "inference_time_ms": {"type": "number", "minimum": 0},
    },
}
_EXPLAINED = {
    "allOf": [
        {"$ref": "#/components/schemas/Answer"},
        {
            "type": "object",
            "required": ["contributions", "base", "margin"],
            "properties": {
                "contributions": {
                    "type": "array",
                    "items": {"type": "object", "additionalProperties": {"type": "number"}},
                    "description": "What each feature adds to the log-odds of churning; one mapping a row",
                },
                "base": {"type": "number", "description": "Log-odds before any feature is looked at"},
                "margin": {
                    "type": "array",
                    "items": {"type": "number"},
                    "description": "base and the row's contributions added up: the log-odds of its probability",
                },
            },
        },
    ]
}
_MODEL = {
    "type": "object",
    "required": ["name", "version", "stage", "scoring", "threshold", "training", "features"],
    "properties": {
        "scoring": {"type": "string", "enum": ["booster", "pipeline"]},
        "fallback_reason": {"type": "string", "nullable": True, "description": "Why the slower pipeline scores"},
        "loaded_from": {"type": "string", "enum": ["registry", "cache"]},
        "training": {"type": "object", "additionalProperties": {"type": "string"}},
        "online_store": {"type": "object", "nullable": True},
        "features": {"type": "array", "items": {"type": "object"}},
    },
}
_REFUSAL = {
    "type": "object",
    "required": ["error", "fields"],
    "properties": {
        "error": {"type": "string"},
        "fields": {
            "type": "object",
            "additionalProperties": {"type": "string"},
            "description": "What is wrong and what was expected, by field",
        },
    },
}
_REFUSALS = {
    400: "The body is no JSON",
    401: "The token is missing or wrong",
    403: "The Host or Origin is another site's",
    404: "A customer is not in the online store",
    408: "The body did not arrive in time",
    413: "Too many bytes or rows",
    415: "The body is not application/json",
    422: "A field is missing, unknown, or not as expected; every one is named",
    429: "Too many requests a second; Retry-After says when to come again",
    503: "No model is loaded, too many requests are being scored, or there is no online store",
}
_NO_EXACT = {501: "The model's type has no exact contributions"}


def _property(fact: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {key: fact[key] for key in ("type", "minimum", "maximum") if key in fact}
    unit = f" [{fact['unit']}]" if "unit" in fact else ""
    described["description"] = fact["meaning"] + unit
    if "allowed" in fact:
        described["enum"] = fact["allowed"]
    return described


def _scoring(name: str, summary: str, answer: str, example: dict[str, Any], refusals: dict[int, str]) -> dict[str, Any]:
    content = {
        "schema": {"oneOf": [_one_of_the_members("features", _rows()), _one_of_the_members("customer_id", _CUSTOMERS)]},
        "examples": {
            "features": {"summary": "One row of features", "value": {"features": example}},
            "customer": {"summary": "One customer's latest features", "value": {"customer_id": "C1"}},
        },
    }
    refused = {str(code): _answer(words, "Refusal") for code, words in refusals.items()}
    return {
        "summary": summary,
        "operationId": name,
        "requestBody": {"required": True, "content": {"application/json": content}},
        "responses": {"200": _answer("The predictions", answer), **refused},
    }


_TEXT = {"type": "string", "pattern": r"\S"}
_CUSTOMERS = {"oneOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1}]}


def _rows() -> dict[str, Any]:
    features = {"$ref": "#/components/schemas/Features"}
    return {"oneOf": [features, {"type": "array", "items": features, "minItems": 1}]}


def _one_of_the_members(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [name], "additionalProperties": False, "properties": {name: schema}}


def _answer(words: str, schema: str | None = None) -> dict[str, Any]:
    if schema is None:
        return {"description": words}
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": words, "content": content}


def _get(words: str, schema: str | None = None) -> dict[str, Any]:
    return {"summary": words, "responses": {"200": _answer("The answer", schema)}}
