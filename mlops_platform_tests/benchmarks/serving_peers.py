"""What the service is measured against: an echo on the same server, and FastAPI around the Pipeline and a DataFrame.

Does not belong here: starting and measuring them (`serving.py`).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import bentoml
from fastapi import FastAPI


class _EchoInFront(bentoml.Service):  # type: ignore[misc]
    """A BentoML service with an echo in front, as ChurnService has its routes there."""

    def to_asgi(self, is_main: bool = True) -> Any:
        """The application a worker runs."""
        behind = super().to_asgi(is_main=is_main)

        async def echo(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or scope["path"] not in {"/bytes", "/json"}:
                await behind(scope, receive, send)
                return
            body = b""
            is_whole = False
            while not is_whole:
                message = await receive()
                body += message.get("body", b"")
                is_whole = not message.get("more_body", False)
            if scope["path"] == "/json":
                body = json.dumps(json.loads(body)).encode()
            head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await send({"type": "http.response.body", "body": body})

        return echo


@bentoml.service(service_class=_EchoInFront, workers=1, http={"host": "127.0.0.1"})
class EchoService:
    """Answers `POST /bytes` with the body as it came, `POST /json` with the body read and written again."""


def fastapi_pipeline() -> FastAPI:
    """The usual service: a request's rows become a DataFrame, the Pipeline scores it.

    The Pipeline's file is the one that the variable MODEL_FILE names.
    """
    import pandas as pd

    from mlops_platform.training_pipeline.model_files import read_model

    model = read_model(Path(os.environ["MODEL_FILE"]), "bench")
    application = FastAPI()

    @application.post("/predict")
    def predict(body: dict[str, Any]) -> dict[str, Any]:
        features = body["features"]
        rows = pd.DataFrame(features if isinstance(features, list) else [features])
        pairs = model.predict_proba(rows)
        return {"predictions": (pairs[:, 1] >= 0.5).astype(int).tolist(), "probability": pairs.tolist()}

    return application
