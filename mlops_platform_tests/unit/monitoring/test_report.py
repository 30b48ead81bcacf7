"""The drift page: what it says, that nothing in it runs but Evidently's own scripts, and how it is written."""

from __future__ import annotations

import re
import socket
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlops_platform.errors import InputError
from mlops_platform.monitoring.drift import DriftResult, Kind, detect_drift
from mlops_platform.monitoring.inert import inert
from mlops_platform.monitoring.report import write_drift_report

HOSTILE = [
    "</script><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg onload=alert(1)>",
    "<!--<script>alert(1)",
    "</ScRiPt >\u202e\x07",
    '<a href="javascript:alert(1)">x</a>',
]
HOSTILE_COLUMN = "</title><script>alert(1)</script>"
KINDS: dict[str, Kind] = {"steady": "numeric", "moved": "numeric", HOSTILE_COLUMN: "categorical", "</td><b>": "numeric"}


class Page(HTMLParser):
    """Scripts, visible text, tags and attributes of a page, as a browser's parser would split them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.scripts: list[str] = []
        self.text = ""
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open = tag
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open == "script":
            self.scripts[-1] += data
        elif self._open != "style":
            self.text += data


def tables(rows: int = 400, shift: float = 1.0) -> tuple[pa.Table, pa.Table]:
    rng = np.random.default_rng(5)

    def table(moved: float) -> pa.Table:
        words = [HOSTILE[i] for i in rng.integers(0, len(HOSTILE), rows)]
        values = {"steady": rng.normal(size=rows), "moved": rng.normal(moved, 1, rows), HOSTILE_COLUMN: words}
        return pa.table({**values, "</td><b>": rng.normal(size=rows)})

    return table(0.0), table(shift)


def policy(page: Page) -> str:
    return next(value for name, value in page.attributes if name == "content" and value and "default-src" in value)


@pytest.fixture(scope="module")
def drift() -> tuple[pa.Table, pa.Table, DriftResult]:
    reference, current = tables()
    return reference, current, detect_drift(reference, current, columns=KINDS)


@pytest.fixture(scope="module")
def written(drift: tuple[pa.Table, pa.Table, DriftResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a drift, written while no connection can be opened."""
    reference, current, result = drift
    path = tmp_path_factory.mktemp("report") / "new folder" / "drift.html"

    def refuse(*_: object) -> None:
        raise AssertionError("the report opened a connection")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        return write_drift_report(reference, current, result, columns=KINDS, path=path, sample_rows=300, seed=7)


def test_the_page_states_the_decision_and_the_sample(written: Path) -> None:
    text = " ".join(Page(written.read_text("utf-8")).text.split())
    assert "Data drift: Drift detected" in text
    assert "1 of 4 columns drifted. Compared 400 current rows with 400 reference rows, all of them." in text
    assert "a random sample of 300 rows from each side, seed 7" in text
    row = re.search(r'<tr class="drifted"><td>(.*?)</tr>', written.read_text("utf-8"))
    assert row is not None
    assert row[1].startswith("moved</td><td>numeric</td><td>ks_2samp</td>")
    assert row[1].endswith("<td>yes</td>")


def test_evidently_draws_every_column_and_says_nothing_about_drift(written: Path) -> None:
    data = Page(written.read_text("utf-8")).scripts[0]
    titles = re.findall(r'"title": "((?:Mean|Unique)[^"]*)"', data)
    assert titles[0].startswith("Mean value of 'moved': ")
    assert len(titles) == len(KINDS)
    assert "drift" not in data.lower()


def test_hostile_names_and_values_are_inert(written: Path) -> None:
    raw = written.read_text("utf-8")
    page = Page(raw)
    for payload in [*HOSTILE, HOSTILE_COLUMN, "</td><b>"]:
        assert payload not in raw
    assert not any("<" in script for script in page.scripts if "alert(1)" in script)
    # Evidently's four scripts and no fifth; no element or handler that a payload asked for.
    assert page.tags.count("script") == 4
    assert not {"img", "svg", "a", "b"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert HOSTILE_COLUMN in page.text


def test_the_policy_allows_exactly_the_scripts_evidently_brought(written: Path) -> None:
    page = Page(written.read_text("utf-8"))
    hashes = [f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in page.scripts]
    assert policy(page).split("; ")[:2] == ["default-src 'none'", f"script-src {' '.join(hashes)}"]


def test_the_page_stays_small_and_leaves_no_partial_file(written: Path) -> None:
    assert written.stat().st_size < 6_000_000
    assert [entry.name for entry in written.parent.iterdir()] == ["drift.html"]


def test_an_old_page_is_replaced_and_too_few_rows_need_no_scripts(tmp_path: Path) -> None:
    reference, current = tables(rows=20)
    result = detect_drift(reference, current, columns=KINDS)
    path = tmp_path / "drift.html"
    path.write_text("old")
    assert write_drift_report(reference, current, result, columns=KINDS, path=path) == path
    page = Page(path.read_text("utf-8"))
    assert "Data drift: Insufficient data" in page.text
    assert "current has 20 rows, fewer than the 100 needed" in page.text
    assert page.text.count("not compared") == len(KINDS)
    assert page.scripts == []
    assert policy(page) == "default-src 'none'; style-src 'unsafe-inline'"


def test_awkward_columns_are_drawn(tmp_path: Path) -> None:
    rows = 300
    awkward = pa.table(
        {
            "constant": [5] * rows,
            "huge": [1e308, -1e308] * (rows // 2),
            "neighbours": [1e16, 1e16 + 2] * (rows // 2),
            "smallest": [5e-324, 0.0] * (rows // 2),
            "sparse": [1.0] * 120 + [None] * (rows - 120),
            "words": ["", None, "x" * 500 + "a", "x" * 500 + "b", "(null)", "y"] * (rows // 6),
            "many": [f"v{i % 25}" for i in range(rows)],
            "infinite": [float("inf"), 1.0, 2.0] * (rows // 3),
        }
    )
    kinds: dict[str, Kind] = dict.fromkeys(awkward.column_names, "numeric")
    kinds |= {"words": "categorical", "many": "categorical"}
    result = detect_drift(awkward, awkward, columns=kinds)
    assert result.status == "ok"
    path = tmp_path / "drift.html"
    # Four sampled rows: those of "sparse" are all null on a side at most seeds.
    write_drift_report(awkward, awkward, result, columns=kinds, path=path, sample_rows=4)
    write_drift_report(awkward, awkward, result, columns=kinds, path=path)
    data = Page(path.read_text("utf-8")).scripts[0]
    for label in ("(null)", "(null) (2)", "(empty text)", "(5 other values)", r"\u2026 (2)"):
        assert f'{label}"' in data


def test_the_sample_depends_on_the_seed_alone(tmp_path: Path, drift: tuple[pa.Table, pa.Table, DriftResult]) -> None:
    reference, current, result = drift

    def drawn(seed: int) -> list[str]:
        path = write_drift_report(
            reference, current, result, columns=KINDS, path=tmp_path / "drift.html", sample_rows=50, seed=seed
        )
        return re.findall(r"current: [-.\d]+, reference: [-.\d]+", path.read_text("utf-8"))

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_a_result_of_other_tables_or_columns_is_refused(
    tmp_path: Path, drift: tuple[pa.Table, pa.Table, DriftResult]
) -> None:
    reference, current, result = drift
    path = tmp_path / "drift.html"
    with pytest.raises(InputError, match="other columns"):
        write_drift_report(reference, current, result, columns={"steady": "numeric"}, path=path)
    with pytest.raises(InputError, match="other rows"):
        write_drift_report(reference, current.slice(1), result, columns=KINDS, path=path)
    with pytest.raises(InputError, match="sample_rows"):
        write_drift_report(reference, current, result, columns=KINDS, path=path, sample_rows=0)
    assert not path.exists()


def test_inert_text_can_still_be_read() -> None:
    assert inert("café & co <3") == "café &amp; co &lt;3"
    assert inert('"\x00\u202e') == r"&#34;\x00\u202e"
    assert len(inert("x" * 500)) == 60
