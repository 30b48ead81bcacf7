"""Leakage: planted columns of the future are named, honest ones pass, and what comes later changes no model."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_platform.contracts import STANDARD
from mlops_platform.errors import InputError
from mlops_platform.settings import load_settings
from mlops_platform.training_pipeline import TrainingPipeline
from mlops_platform.training_pipeline.fitting import fit
from mlops_platform.training_pipeline.leakage import require_no_leak
from mlops_platform.training_pipeline.models import make_model
from mlops_platform_tests.oracles.features import Purchase
from mlops_platform_tests.unit.training_pipeline.worlds import AS_OF, Shop, buy, history, open_shop

DRAW = np.random.default_rng(5)
CHURNED = (DRAW.random(400) < 0.4).astype(int)


def rows(**columns: Any) -> pa.Table:
    honest = np.where(CHURNED, DRAW.exponential(60, 400), DRAW.exponential(20, 400))
    return pa.table({"churned": CHURNED, "recency": honest, **columns})


LEAKS: dict[str, Any] = {
    "the label": CHURNED,
    "the label turned round": 1 - CHURNED,
    "days until the next purchase": np.where(CHURNED, 90 + DRAW.integers(1, 99, 400), DRAW.integers(1, 90, 400)),
    "missing where nothing follows": pa.array(
        [None if c else float(d) for c, d in zip(CHURNED, range(400), strict=True)]
    ),
    "a text": pa.array(["gone" if c else DRAW.choice(["open", "new"]) for c in CHURNED]),
    "a text in a dictionary": pa.array(["gone" if c else "here" for c in CHURNED]).dictionary_encode(),
    "a truth value": pa.array(CHURNED.astype(bool)),
    "money": pa.array([Decimal(int(c)) for c in CHURNED]),
}


@pytest.mark.parametrize("leak", LEAKS)
def test_a_planted_column_is_named(leak: str) -> None:
    with pytest.raises(InputError, match=rf"all but tell who churned: {leak} \(ROC-AUC (1\.0|0\.99)"):
        require_no_leak(rows(**{leak: LEAKS[leak]}), ["recency", leak])


def test_honest_columns_pass() -> None:
    honest = {
        "ident": pa.array([f"c{n}" for n in range(400)]),
        "one": pa.array(["same"] * 400),
        "category": pa.array(["a", "b", "c", None] * 100),
        "empty": pa.nulls(400),
        "flat": np.ones(400),
    }
    require_no_leak(rows(**honest), ["recency", *honest])


def test_too_few_rows_tell_nothing() -> None:
    few = rows(leak=CHURNED).slice(0, 60)
    require_no_leak(few, ["leak"])


def test_training_on_a_planted_column_registers_nothing(shop: Shop, tmp_path: Path) -> None:
    table = shop.draft().rows
    planted = table.append_column("next_purchase_in_days", pa.array(90 - 80 * (1 - table["churned"].to_numpy())))
    pq.write_table(
        planted.rename_columns(["target" if n == "churned" else n for n in planted.column_names]),
        tmp_path / "f.parquet",
    )
    pipeline = TrainingPipeline(settings=load_settings(home=tmp_path / "home"))
    with pytest.raises(InputError, match="next_purchase_in_days"):
        pipeline.run(s3_path=str(tmp_path / "f.parquet"))
    assert not pipeline.manager.client.search_model_versions()
    assert not pipeline.manager.client.search_runs([pipeline.manager.experiment_id("production_training")])


def model_hash(purchases: list[Purchase], folder: Path) -> str:
    """Hash of the model of a history, and its threshold."""
    opened = open_shop(load_settings(home=folder), purchases)
    model = make_model("xgboost", {"n_estimators": 20, "min_child_weight": 1})
    found = fit(model.set_params(features__features=list(STANDARD.names)), opened.draft().rows)
    return f"{found.hash} {found.threshold}"


def test_nothing_after_the_last_training_label_changes_the_model(tmp_path: Path) -> None:
    purchases = history(customers=120)
    evaluation = AS_OF - timedelta(days=90)
    before = [each for each in purchases if each.day <= evaluation]
    after = [each for each in purchases if each.day > evaluation]
    assert len(after) > 100
    draw = random.Random(3)
    customers = [each.customer_id for each in after]
    draw.shuffle(customers)
    permuted = [replace(each, customer_id=customer) for each, customer in zip(after, customers, strict=True)]
    # Deleted but for one purchase on the last day, which says how far the history goes.
    deleted = [buy("c0", AS_OF), buy("c1", evaluation + timedelta(days=1))]
    hashes = {model_hash([*before, *later], tmp_path / f"{n}") for n, later in enumerate((after, permuted, deleted))}
    assert len(hashes) == 1
    changed = [each for each in before if each.customer_id not in {f"c{n}" for n in range(10)}]
    assert model_hash([*changed, *after], tmp_path / "changed") not in hashes
