"""docs/licences.md keeps up with the locks, and a licence that asks for something needs a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import licences
from tools.licences import Row, problems


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The page of a lock with two distributions, of which one is installed."""
    (tmp_path / "requirements.lock").write_text(
        "plain-one==1.0 \\\n    --hash=sha256:0\nthe_other==2.0 ; os_name == 'nt'\n"
    )
    monkeypatch.setattr(licences, "ROOT", tmp_path)
    monkeypatch.setattr(licences, "LOCKS", {"requirements.lock": ".venv"})
    monkeypatch.setattr(licences, "PAGE", tmp_path / "licences.md")
    monkeypatch.setattr(licences, "installed", lambda: {("plain-one", "1.0"): "MIT"})
    monkeypatch.setattr(licences, "REASONS", {})
    return licences.page(licences.rows())


def test_a_fresh_page(page: str) -> None:
    assert problems(page) == []
    assert "| the-other | 2.0 | not installed where this was made | main |" in page


def test_another_version_and_another_licence(page: str) -> None:
    assert problems(page.replace("1.0", "1.1")) == [
        "plain-one 1.0 is in a lock, and not on the page",
        "plain-one 1.1 is on the page, and in no lock",
    ]
    assert problems(page.replace("MIT", "ISC")) == ["plain-one 1.0 says 'MIT', the page 'ISC'"]


def test_a_licence_that_asks_for_something(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(licences, "installed", lambda: {("plain-one", "1.0"): "GPL-3.0-only"})
    asking = licences.page(licences.rows())
    assert problems(asking) == ["plain-one: GPL-3.0-only needs a reason"]
    monkeypatch.setattr(licences, "REASONS", {"plain-one": "in tests alone"})
    assert problems(licences.page(licences.rows())) == []
    monkeypatch.setattr(licences, "installed", dict)
    assert problems(page) == ["plain-one has a reason, and no such licence"]


@pytest.mark.parametrize(
    ("licence", "asks"),
    [
        ("MIT", False),
        ("MPL-2.0", True),
        ("AGPL-3.0-only", True),
        ("GNU Library or Lesser General Public License (LGPL)", True),
        ("UNKNOWN", True),
        ("LicenseRef-NVIDIA-Proprietary", True),
        ("GPL-2.0-or-later OR MIT", False),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", True),
    ],
)
def test_which_licences_ask(licence: str, asks: bool) -> None:
    assert Row("one", "1", licence, "main").asks is asks
