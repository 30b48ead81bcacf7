"""The digest of a model's files: every byte of every one counts, and nothing else does."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from mlops_platform.training_pipeline.model_digest import (
    FEW_ROWS_FILE,
    MODEL_FILES,
    PIPELINE_FILE,
    SERVING_FILES,
    files_digest,
)
from mlops_platform.training_pipeline.serving_form import SERVING_PATH, save, serving_form
from mlops_platform_tests.unit.inference_pipeline.versions_to_serve import fitted
from mlops_platform_tests.unit.training_pipeline.worlds import Shop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in MODEL_FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode() * 1000)
    return tmp_path


def test_it_is_that_of_sha256sums_listing(folder: Path) -> None:
    listing = "".join(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in MODEL_FILES)
    assert files_digest(folder) == hashlib.sha256(listing.encode()).hexdigest()


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_changed_or_a_missing_file_is_another_digest(folder: Path, name: str) -> None:
    before = files_digest(folder)
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + b"!")
    changed = files_digest(folder)
    (folder / name).unlink()
    assert len({before, changed, files_digest(folder)}) == 3
    (folder / name).write_bytes(content)
    assert files_digest(folder) == before


def test_files_that_change_places_are_another_digest(folder: Path) -> None:
    before = files_digest(folder)
    one, other = (folder / name for name in (PIPELINE_FILE, SERVING_FILES[0]))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert files_digest(folder) != before


def test_other_files_do_not_count(folder: Path) -> None:
    before = files_digest(folder)
    (folder / "model" / "MLmodel").write_text("made at another time")
    assert files_digest(folder) == before


def test_it_counts_every_file_of_a_serving_form(shop: Shop, tmp_path: Path) -> None:
    form = serving_form(fitted(shop))
    assert form is not None
    save(form, tmp_path)
    assert {f"{SERVING_PATH}/{path.name}" for path in tmp_path.iterdir()} == {*SERVING_FILES, FEW_ROWS_FILE}
