"""What the service answers: explanations, customers by name, what it says of its model, and what it writes down."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlops_platform.inference_pipeline.prediction_log import customer_names
from mlops_platform.inference_pipeline.validation import RowSchema
from mlops_platform.settings import load_settings
from mlops_platform_tests.unit.serving.fakes import asked, fill_store, make_answerer, make_endpoint
from serving.answers import Answerer
from serving.pages import openapi

ROW = RowSchema.of(load_settings()).example()


@pytest.fixture
def answerer(tmp_path: Path) -> Answerer:
    return make_answerer(tmp_path / "home")


def post(answerer: Answerer, path: str, document: Any) -> tuple[int, Any]:
    response = asked(make_endpoint(answerer), path, json.dumps(document).encode())
    return response.status, response.json()


def logged(answerer: Answerer) -> list[dict[str, Any]]:
    files = sorted(answerer.log.folder.glob("predictions-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_an_explanation_is_the_prediction_and_what_adds_up_to_it(answerer: Answerer) -> None:
    row = ROW | {"tenure_days": 300}
    status, found = post(answerer, "/explain", {"features": row})
    assert status == 200
    predicted = post(answerer, "/predict", {"features": row})[1]
    added = {"contributions", "base", "margin"}
    timed = {"inference_time_ms": None}
    assert {k: v for k, v in found.items() if k not in added} | timed == predicted | timed
    (contributions,) = found["contributions"]
    assert list(contributions) == list(ROW)
    assert found["base"] + sum(contributions.values()) == pytest.approx(found["margin"][0]) == 2.0
    assert len(logged(answerer)) == 2


def test_a_list_is_explained_row_by_row(answerer: Answerer) -> None:
    rows = [ROW | {"tenure_days": days} for days in (0, 100, 200)]
    _, found = post(answerer, "/explain", {"features": rows})
    assert [c["tenure_days"] for c in found["contributions"]] == [0.0, 1.0, 2.0]
    assert found["margin"] == [-1.0, 0.0, 1.0]
    assert len(found["probability"]) == 3


def test_a_model_without_contributions_says_so(tmp_path: Path) -> None:
    answerer = make_answerer(tmp_path / "home", has_contributions=False)
    status, found = post(answerer, "/explain", {"features": ROW})
    assert (status, found["fields"]) == (501, {})
    assert "no exact contributions" in found["error"]
    assert not logged(answerer)
    assert post(answerer, "/predict", {"features": ROW})[0] == 200


def test_a_customer_is_scored_by_the_latest_features(answerer: Answerer) -> None:
    fill_store(answerer._settings, date(2024, 1, 15), C1=100, C2=300)
    by_id = post(answerer, "/predict", {"customer_id": "C2"})[1]
    by_row = post(answerer, "/predict", {"features": ROW | {"tenure_days": 300}})[1]
    assert by_id["probability"] == by_row["probability"]
    assert isinstance(by_id["probability"][0], float)
    both = post(answerer, "/predict", {"customer_id": ["C2", "C1", "C2"]})[1]
    assert both["probability"][0] == both["probability"][2] == by_id["probability"]
    explained = post(answerer, "/explain", {"customer_id": "C1"})[1]
    assert explained["margin"] == [0.0]


def test_the_log_holds_the_customers_hash_and_features(answerer: Answerer) -> None:
    fill_store(answerer._settings, date(2024, 1, 15), C1=100, C2=300)
    post(answerer, "/predict", {"customer_id": ["C2", "C1"]})
    post(answerer, "/predict", {"features": ROW})
    first, second, third = logged(answerer)
    assert [first["customer_hmac"], second["customer_hmac"]] == customer_names(answerer._settings, ["C2", "C1"])
    assert first["features"] == ROW | {"tenure_days": 300}
    assert "customer_hmac" not in third
    assert not any("customer_id" in line for line in (str(first), str(second)))


def test_without_the_key_a_customer_is_answered_but_not_logged(answerer: Answerer) -> None:
    fill_store(answerer._settings, date(2024, 1, 15), C1=100)
    (answerer._settings.home / "hmac.key").write_text("short")
    assert post(answerer, "/predict", {"customer_id": "C1"})[0] == 200
    assert not logged(answerer)
    answerer.metrics.log_failed.assert_called_once_with(1)  # type: ignore[attr-defined]


def test_an_unknown_customer_is_not_found(answerer: Answerer) -> None:
    fill_store(answerer._settings, date(2024, 1, 15), C1=100)
    status, found = post(answerer, "/predict", {"customer_id": "C9"})
    assert (status, list(found["fields"])) == (404, ["customer_id"])
    assert "send its features instead" in found["fields"]["customer_id"]
    status, found = post(answerer, "/predict", {"customer_id": ["C1", "C9"]})
    assert (status, list(found["fields"])) == (404, ["[1].customer_id"])
    assert not logged(answerer)


def test_without_a_store_a_customer_can_not_be_answered(answerer: Answerer) -> None:
    status, found = post(answerer, "/predict", {"customer_id": "C1"})
    assert status == 503
    assert "there is no online store yet" in found["error"]


def test_the_model_describes_itself_and_its_store(answerer: Answerer) -> None:
    def described() -> dict[str, Any]:
        found: dict[str, Any] = asked(make_endpoint(answerer), "/model", method="GET").json()
        return found

    found = described()
    assert (
        found.items()
        >= {
            "name": "customer_churn_model",
            "version": "3",
            "stage": "Production",
            "loaded_from": "registry",
            "scoring": "booster",
            "fallback_reason": None,
            "threshold": 0.5,
            "training_snapshot_id": "7",
            "training": {"model_type": "xgboost", "as_of": "2024-01-15"},
            "online_store": None,
        }.items()
    )
    assert [feature["name"] for feature in found["features"]] == list(ROW)
    today = datetime.now(UTC).date()
    fill_store(answerer._settings, today - timedelta(days=1), C1=1)
    fresh = described()["online_store"]
    assert fresh == {"feature_date": f"{today - timedelta(days=1)}", "customers": 1, "age_days": 0, "is_stale": False}
    answerer.look()
    answerer.metrics.store_lags.assert_called_with("sqlite", 0)  # type: ignore[attr-defined]


def test_an_old_store_is_stale_and_a_damaged_one_a_problem(answerer: Answerer) -> None:
    fill_store(answerer._settings, date(2024, 1, 15), C1=1)
    found = json.loads(answerer.model().body)["online_store"]
    assert found["is_stale"]
    assert found["age_days"] > 365
    answerer._settings.online_store.unlink()
    answerer._settings.online_store.write_bytes(b"no database" * 500)
    assert "can't be read" in json.loads(answerer.model().body)["online_store"]["problem"]
    answerer.look()


def test_every_route_and_answer_is_in_the_document(answerer: Answerer) -> None:
    document = openapi(RowSchema.of(answerer._settings))
    assert document["paths"].keys() >= {"/predict", "/explain", "/model"}
    for path in ("/predict", "/explain"):
        codes = document["paths"][path]["post"]["responses"].keys()
        assert codes >= {"200", "400", "401", "404", "408", "413", "415", "422", "429", "503"}
        examples = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        assert post(answerer, path, examples["features"]["value"])[0] == 200
    assert "501" in document["paths"]["/explain"]["post"]["responses"]
