"""Drift reports over HTTP: the pages of one folder, and nothing else."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from mlops_platform.monitoring.exporter import Exporter, serving


@pytest.fixture
def reports(tmp_path: Path) -> Path:
    folder = tmp_path / "reports"
    (folder / "below").mkdir(parents=True)
    for path in (folder / "drift-1.html", folder / "notes.txt", folder / ".hidden.html", folder / "below" / "x.html"):
        path.write_text("<p>é</p>")
    (tmp_path / "secret.html").write_text("secret")
    return folder


def test_a_page_comes_as_it_is_and_shares_nothing(reports: Path) -> None:
    with serving(Exporter([]), reports, "127.0.0.1", 0) as port:
        found = httpx.get(f"http://127.0.0.1:{port}/reports/drift-1.html")
        assert httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 200
    assert (found.status_code, found.text) == (200, "<p>é</p>")
    assert found.headers["content-type"] == "text/html; charset=utf-8"
    assert found.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src")


@pytest.mark.parametrize(
    "name",
    [
        "", "notes.txt", ".hidden.html", "below/x.html", "../secret.html", "%2e%2e/secret.html", "..%2fsecret.html",
        "gone.html", "drift-1.html/", "drift-1.html%00",
    ],
)  # fmt: skip
def test_nothing_else_does(reports: Path, name: str) -> None:
    with serving(Exporter([]), reports, "127.0.0.1", 0) as port:
        found = httpx.get(f"http://127.0.0.1:{port}/reports/{name}")
        assert "secret" not in found.text
        assert found.status_code == 404 or found.headers["content-type"].startswith("text/plain")
        assert httpx.post(f"http://127.0.0.1:{port}/reports/drift-1.html").status_code in {404, 405}
