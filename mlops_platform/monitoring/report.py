"""The drift report: one HTML page that states our decision and shows the distributions behind it.

Belongs here: drawing and writing the page. Does not belong here: the decision (`drift.py`); this module repeats it and
computes none of its own.

Evidently draws the distributions, and only those: `MeanValue` and `UniqueValueCount` show histograms and say nothing
about drift, so the page can't contradict the decision (its own drift metrics use other tests and limits). Evidently
writes strings into a script element as they are, so every name and category is made inert before Evidently sees it;
the page's Content-Security-Policy then allows exactly the scripts Evidently brought, and no network.
"""

from __future__ import annotations

import re
import secrets
import warnings
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlops_platform.errors import InputError
from mlops_platform.monitoring.drift import ColumnDrift, DriftResult, Kind
from mlops_platform.monitoring.inert import inert, labels
from mlops_platform.monitoring.two_samples import read_categories, read_numbers

if TYPE_CHECKING:
    import numpy.typing as npt

# More bars than these can't be told apart; the rest become one bar that says how many values it stands for.
_MAX_CATEGORIES = 20
_MAX_PROBLEM_CHARACTERS = 1000
# Beyond this the third power in Evidently's choice of bin width overflows.
LARGEST_DRAWN = 1e100
# Smallest range, as a share of the largest value, that a double can be cut into bins.
_NARROWEST_DRAWN = 1e-10
_NULL = "(null)"
SAMPLE_ROWS, SEED = 20_000, 0
# Evidently's head begins with a large script; our marks stand before it.
_HEAD_BYTES = 1000

_VERDICTS = {"ok": "No drift", "drift": "Drift detected", "insufficient_data": "Insufficient data"}
_STYLE = """
#decision { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; padding: 24px 32px; }
#decision h1 { font-size: 24px; margin: 0 0 8px; }
#decision h1 span { padding: 2px 12px; border-radius: 4px; color: #fff; }
#decision .ok { background: #1b7f3b; } #decision .drift { background: #b3261e; }
#decision .insufficient_data { background: #8a5a00; }
#decision table { border-collapse: collapse; margin: 12px 0; }
#decision th, #decision td { border-bottom: 1px solid #ddd; padding: 4px 14px 4px 0; text-align: left; }
#decision td.number, #decision th.number { text-align: right; font-variant-numeric: tabular-nums; }
#decision td { overflow-wrap: anywhere; }
#decision tr.drifted td { background: #fdecea; font-weight: 600; }
"""


def write_drift_report(
    reference: pa.Table,
    current: pa.Table,
    result: DriftResult,
    *,
    columns: Mapping[str, Kind],
    path: Path,
    sample_rows: int = SAMPLE_ROWS,
    seed: int = SEED,
) -> Path:
    """Write the page for a decision, replacing an older one in one step; the same page is not drawn again.

    The decision stands at the top; below it the distributions of every compared column, drifted ones and large effects
    first. They come from a random sample of the same number of rows on each side, so that bars compare. Where no column
    was compared the page ends after the decision.

    Args:
        reference: The rows `result` was decided on.
        current: The same.
        result: What `detect_drift` returned for them.
        columns: The columns it was asked for.
        path: Where to write; missing folders are created.
        sample_rows: Most rows to draw from each side, at least 1.
        seed: Seed of the sample; the same rows, seed and sample_rows give the same sample.

    Returns:
        `path`.

    Raises:
        InputError: `result` belongs to other tables or columns, or sample_rows is below 1.
    """
    if {column.column: column.kind for column in result.columns} != dict(columns):
        raise InputError("The drift result was decided on other columns", expected="the columns of the result")
    if (reference.num_rows, current.num_rows) != (result.reference_rows, result.current_rows):
        raise InputError("The drift result was decided on other rows", expected="the tables of the result")
    if sample_rows < 1:
        raise InputError(f"sample_rows is {sample_rows}", expected="1 or more")
    columns_drawn = compared(result)
    if not columns_drawn:
        decision = _decision(result, "No column was compared, so no distribution is drawn.")
        _replace_file(path, _own_page(decision))
        return path
    samples = sampled(reference, current, [column.column for column in columns_drawn], sample_rows, seed)
    rows = f"{samples[0].num_rows:,} rows from each side, seed {seed}"
    decision = _decision(result, f"Distributions and the means above them: a random sample of {rows}.")
    digest = _digest(decision, samples)
    if not _holds(path, digest):
        _replace_file(path, _add_decision(_draw(*samples, columns_drawn), decision, digest))
    return path


def ranked(result: DriftResult) -> list[ColumnDrift]:
    """The columns, drifted ones and large effects first."""
    return sorted(result.columns, key=lambda column: (not column.drifted, -(column.effect or 0.0)))


def compared(result: DriftResult) -> list[ColumnDrift]:
    """Those of them that could be compared."""
    return [column for column in ranked(result) if column.p_value is not None]


def sample_size(reference: pa.Table, current: pa.Table, sample_rows: int = SAMPLE_ROWS) -> int:
    """Rows drawn from each side: the same number, so that bars compare."""
    return min(sample_rows, int(reference.num_rows), int(current.num_rows))


def sampled(
    reference: pa.Table, current: pa.Table, names: list[str], sample_rows: int = SAMPLE_ROWS, seed: int = SEED
) -> tuple[pa.Table, pa.Table]:
    """`sample_size` rows of each side, in the order they stood in."""
    size = sample_size(reference, current, sample_rows)
    return _sample(reference.select(names), size, (seed, 0)), _sample(current.select(names), size, (seed, 1))


def _digest(decision: str, samples: tuple[pa.Table, pa.Table]) -> str:
    """What a page is drawn from: the decision, the sampled rows, the library that draws."""
    found = sha256(f"{version('evidently')}\n{decision}".encode())
    for sample in samples:
        rows = sample.combine_chunks()
        with pa.ipc.new_stream(sink := pa.BufferOutputStream(), rows.schema) as stream:
            stream.write_table(rows)
        found.update(sink.getvalue())
    return found.hexdigest()


def _holds(path: Path, digest: str) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as page:
        return _mark(digest).encode() in page.read(_HEAD_BYTES)


def _sample(table: pa.Table, size: int, seed: tuple[int, int]) -> pa.Table:
    import numpy as np

    if size == table.num_rows:
        return table
    chosen = np.random.default_rng(seed).choice(table.num_rows, size, replace=False, shuffle=False)
    return table.take(pa.array(np.sort(chosen)))


def _draw(reference: pa.Table, current: pa.Table, columns: list[ColumnDrift]) -> str:
    """Evidently's page: one histogram a column, in the order given."""
    import pandas as pd

    with warnings.catch_warnings():
        # Evidently 0.7 imports names that NumPy and Litestar have deprecated; nothing of ours runs in here.
        warnings.simplefilter("ignore", DeprecationWarning)
        from evidently import DataDefinition, Dataset, Report
        from evidently.metrics import MeanValue, UniqueValueCount

    named = labels(column.column for column in columns)
    frames: tuple[dict[str, npt.NDArray[Any]], ...] = ({}, {})
    metrics: list[MeanValue | UniqueValueCount] = []
    for column in columns:
        label, sides = named[column.column], (reference[column.column], current[column.column])
        numbers = _drawn_numbers(*sides) if column.kind == "numeric" else None
        metrics.append(UniqueValueCount(column=label) if numbers is None else MeanValue(column=label))
        for frame, values in zip(frames, numbers or _drawn_categories(*sides), strict=True):
            frame[label] = values
    definition = DataDefinition(
        numerical_columns=[metric.column for metric in metrics if isinstance(metric, MeanValue)],
        categorical_columns=[metric.column for metric in metrics if isinstance(metric, UniqueValueCount)],
    )
    data = [Dataset.from_pandas(pd.DataFrame(frame, copy=False), data_definition=definition) for frame in frames]
    run = Report(metrics, include_tests=False).run(reference_data=data[0], current_data=data[1])
    return str(run.get_html_str(as_iframe=False))


def _drawn_numbers(*sides: pa.ChunkedArray) -> list[npt.NDArray[Any]] | None:
    """Values as Evidently can bin them, NaN where null; None where they can't be binned, but only listed."""
    import numpy as np

    drawn = [np.clip(read_numbers(side).to_numpy(), -LARGEST_DRAWN, LARGEST_DRAWN) for side in sides]
    present = [side[~np.isnan(side)] for side in drawn]
    if not all(side.size for side in present):
        # A small sample of a sparse column: Evidently divides by the number of values.
        return None
    values = np.concatenate(present)
    # Evidently raises where neighbouring doubles are wider apart than the bins (20 ids near 1e16).
    narrowest = max(float(np.abs(values).max()) * _NARROWEST_DRAWN, np.finfo(np.float64).tiny / _NARROWEST_DRAWN)
    spread = float(np.ptp(values))
    return drawn if spread == 0 or spread > narrowest else None


def _drawn_categories(*sides: pa.ChunkedArray) -> list[npt.NDArray[Any]]:
    """The most frequent values of both sides under inert labels; nulls and the rest under labels of ours."""
    import numpy as np

    texts = [read_categories(side).cast(pa.string()).to_pylist() for side in sides]
    counts = Counter(text for side in texts for text in side if text is not None)
    # Ties by code point, so that the same sample always draws the same page.
    frequent = sorted(counts, key=lambda text: (-counts[text], text))[:_MAX_CATEGORIES]
    rest = f"({len(counts) - len(frequent)} other values)"
    named = labels(frequent, reserved=(_NULL, rest))
    drawn = [[(_NULL if text is None else named.get(text, rest)) for text in side] for side in texts]
    return [np.array(side, dtype=object) for side in drawn]


def _decision(result: DriftResult, note: str) -> str:
    drifted = sum(column.drifted for column in result.columns)
    problems = "".join(f"<li>{inert(problem, _MAX_PROBLEM_CHARACTERS)}</li>" for problem in result.problems)
    rows = "".join(_row(column) for column in ranked(result))
    heads = "".join(f"<th>{head}</th>" for head in ("Column", "Kind", "Method"))
    heads += "".join(f'<th class="number">{head}</th>' for head in ("Statistic", "p-value", "Effect"))
    return f"""<section id="decision"><style>{_STYLE}</style>
<h1>Data drift: <span class="{result.status}">{_VERDICTS[result.status]}</span></h1>
<p>{drifted} of {len(result.columns)} columns drifted. Compared {result.current_rows:,} current rows with
{result.reference_rows:,} reference rows, all of them. A column drifts when it is significant at the family-wise level
{result.drift_threshold:g} (Holm's correction over the compared columns) and its effect is at least
{result.effect_limit:g}.</p>
{f"<p>Problems:</p><ul>{problems}</ul>" if problems else ""}
<table><thead><tr>{heads}<th>Drifted</th></tr></thead><tbody>{rows}</tbody></table>
<p>{note}</p></section>
"""


def _row(column: ColumnDrift) -> str:
    figures = ((column.statistic, ".4g"), (column.p_value, ".2g"), (column.effect, ".3f"))
    cells = "".join(
        f'<td class="number">{"–" if value is None else format(value, spec)}</td>' for value, spec in figures
    )
    verdict = "not compared" if column.p_value is None else "yes" if column.drifted else "no"
    names = f"<td>{inert(column.column)}</td><td>{column.kind}</td><td>{column.method}</td>"
    mark = ' class="drifted"' if column.drifted else ""
    return f"<tr{mark}>{names}{cells}<td>{verdict}</td></tr>"


def _add_decision(page: str, decision: str, digest: str) -> str:
    """Put the decision before Evidently's page, and allow its scripts, by hash, and nothing else."""
    hashes = " ".join(
        f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'"
        for script in re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    )
    policy = f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; font-src data:; img-src data: blob:"
    return _insert_after(_insert_after(page.lstrip(), "<head>", _mark(digest) + _head(policy)), "<body>", decision)


def _own_page(decision: str) -> str:
    head = _head("default-src 'none'; style-src 'unsafe-inline'")
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>{head}</head>\n<body>{decision}</body>\n</html>\n'


def _mark(digest: str) -> str:
    return f'<meta name="drawn-from" content="{digest}">'


def _head(policy: str) -> str:
    return (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}">'
        "<title>Data drift report</title>"
    )


def _insert_after(page: str, marker: str, addition: str) -> str:
    before, found, after = page.partition(marker)
    if not found:
        raise RuntimeError(f"Evidently's page has no {marker}: this version of it writes another template")
    return f"{before}{marker}{addition}{after}"


def _replace_file(path: Path, text: str) -> None:
    """A reader sees the old page or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        # Bytes: a translated line end would change the scripts' hashes.
        partial.write_bytes(text.encode("utf-8"))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
