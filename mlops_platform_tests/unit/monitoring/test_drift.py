"""Drift decisions on tables whose truth is known, because the test drew them."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest

from mlops_platform.errors import InputError
from mlops_platform.monitoring.drift import DriftResult, Kind, detect_drift
from mlops_platform.monitoring.two_samples import contingency, cramers_v, holm

SHARES = (0.35, 0.25, 0.2, 0.12, 0.08)
COLUMNS: dict[str, Kind] = {
    **{f"normal_{i}": "numeric" for i in range(5)},
    **{f"spend_{i}": "numeric" for i in range(5)},
    **{f"count_{i}": "numeric" for i in range(5)},
    **{f"category_{i}": "categorical" for i in range(5)},
}


def draw(seed: int, rows: int, shifted: tuple[str, ...] = ()) -> pa.Table:
    """Rows of COLUMNS; the shifted ones move by 0.5 sd (of the logarithm for spend), or a 12 % category doubles."""
    rng = np.random.default_rng(seed)
    data: dict[str, np.ndarray] = {}
    for name in COLUMNS:
        shift = 0.5 if name in shifted else 0.0
        if name.startswith("normal"):
            data[name] = rng.normal(shift, 1, rows)
        elif name.startswith("spend"):
            data[name] = rng.lognormal(shift, 1, rows)
        elif name.startswith("count"):
            data[name] = rng.poisson(3 + shift * 3**0.5, rows)
        else:
            shares = np.array([0.29, 0.19, 0.2, 0.24, 0.08] if shift else SHARES)
            data[name] = rng.choice(["food", "home", "sport", "toys", "other"], rows, p=shares)
    return pa.table(data)


def named(result: DriftResult) -> set[str]:
    return {column.column for column in result.columns if column.drifted}


def p_values(result: DriftResult) -> list[float]:
    return [column.p_value for column in result.columns if column.p_value is not None]


# 200 rows: the family-wise level alone decides, 5 % (measured: 4.1 % of 1,000 draws); more than 6 of 40 has a chance of
# 0.3 %. 500 rows: the effect limit decides too (measured: 0.6 %).
@pytest.mark.parametrize(("rows", "most_alarms"), [(200, 6), (500, 2)])
def test_unchanged_data_rarely_alarms(rows: int, most_alarms: int) -> None:
    results = [detect_drift(draw(seed, 3_000), draw(10_000 + seed, rows), columns=COLUMNS) for seed in range(40)]
    assert sum(result.drift_detected for result in results) <= most_alarms
    assert all(result.status == "ok" for result in results if not result.drift_detected)


def test_planted_shifts_are_found_and_no_other_column_is_named() -> None:
    for seed in range(10):
        planted = {
            f"normal_{seed % 5}",
            f"spend_{(seed + 1) % 5}",
            f"count_{(seed + 2) % 5}",
            f"category_{(seed + 3) % 5}",
        }
        result = detect_drift(draw(seed, 3_000), draw(500 + seed, 3_000, tuple(planted)), columns=COLUMNS)
        assert named(result) == planted
        assert result.status == "drift"
        assert result.drift_detected
        assert [column.column for column in result.columns] == list(COLUMNS)


def test_a_significant_but_small_shift_is_no_drift_until_the_limit_is_lowered() -> None:
    rng = np.random.default_rng(1)
    reference, current = (pa.table({"x": rng.normal(mean, 1, 50_000)}) for mean in (0.0, 0.1))
    result = detect_drift(reference, current, columns={"x": "numeric"})
    assert p_values(result)[0] < 1e-9
    assert result.status == "ok"
    assert detect_drift(reference, current, columns={"x": "numeric"}, effect_limit=0.02).status == "drift"


def test_the_threshold_is_shared_by_all_columns() -> None:
    rng = np.random.default_rng(3)
    noise = {f"n{i}": rng.normal(size=400) for i in range(50)}
    reference = pa.table({"x": rng.normal(size=400), **noise})
    current = pa.table({"x": rng.normal(0.25, 1, 400), **noise})
    alone = detect_drift(reference, current, columns={"x": "numeric"})
    among = detect_drift(reference, current, columns=dict.fromkeys(reference.column_names, "numeric"))
    assert 0.05 / 51 < p_values(alone)[0] < 0.05
    assert alone.status == "drift"
    assert among.status == "ok"


@pytest.mark.parametrize("rows", [0, 99])
def test_too_few_rows_are_an_answer_of_their_own(rows: int) -> None:
    result = detect_drift(draw(1, 3_000), draw(2, rows, tuple(COLUMNS)), columns=COLUMNS)
    assert (result.status, result.drift_detected, result.current_rows) == ("insufficient_data", False, rows)
    assert result.problems == (f"current has {rows} rows, fewer than the 100 needed",)
    assert all(column.p_value is None and not column.drifted for column in result.columns)


def test_missing_and_mistyped_columns_are_named_and_the_others_still_compared() -> None:
    reference, current = draw(1, 500), draw(2, 500, ("normal_0",))
    current = current.drop_columns(["spend_1"]).set_column(1, "normal_1", pa.array(["1"] * 500))
    result = detect_drift(reference, current, columns=COLUMNS)
    assert result.problems == (
        "column 'normal_1': is string in current, which can't be compared as numeric",
        "column 'spend_1': missing in current",
    )
    assert named(result) == {"normal_0"}
    unshifted = detect_drift(reference, draw(2, 500).drop_columns(["spend_1"]), columns=COLUMNS)
    assert unshifted.status == "insufficient_data"


def test_constant_null_and_nan_columns_are_judged_without_raising() -> None:
    rows = 300
    table = pa.table(
        {
            "constant": pa.array([7] * rows),
            "one_word": pa.array(["only"] * rows),
            "all_null": pa.nulls(rows, pa.float64()),
            "untyped_null": pa.nulls(rows),
            "all_nan": pa.array([math.nan] * rows),
            "infinite": pa.array([math.inf, -math.inf, 1.0] * (rows // 3)),
        }
    )
    kinds: dict[str, Kind] = dict.fromkeys(table.column_names, "numeric")
    result = detect_drift(table, table, columns={**kinds, "one_word": "categorical", "untyped_null": "categorical"})
    figures = {column.column: column.p_value for column in result.columns}
    assert figures == {**dict.fromkeys(figures), "constant": 1.0, "one_word": 1.0, "infinite": 1.0}
    assert result.status == "insufficient_data"
    problems = "\n".join(result.problems)
    assert "column 'all_nan': 0 of 300 rows of current hold a value, fewer than the 100 needed" in problems
    assert "constant" not in problems


def test_a_constant_that_changes_is_drift() -> None:
    before, after = pa.table({"x": [1] * 200, "c": ["a"] * 200}), pa.table({"x": [2] * 200, "c": ["b"] * 200})
    result = detect_drift(before, after, columns={"x": "numeric", "c": "categorical"})
    assert named(result) == {"x", "c"}
    assert result.columns[0].effect == 1.0


@pytest.mark.parametrize("missing", [None, math.nan])
def test_a_null_share_that_rises_is_a_problem_even_when_the_values_agree(missing: float | None) -> None:
    values = np.random.default_rng(1).normal(size=2_000)
    holed = pa.table({"x": pa.array([missing if i % 4 else value for i, value in enumerate(values)], pa.float64())})
    result = detect_drift(pa.table({"x": values}), holed, columns={"x": "numeric"})
    assert result.problems == ("column 'x': null share is 0.0% in reference, 75.0% in current",)
    assert (result.status, result.columns[0].drifted) == ("insufficient_data", False)
    assert detect_drift(holed, holed, columns={"x": "numeric"}).status == "ok"


def test_categories_compare_by_value_whatever_their_storage() -> None:
    words = pa.array(["a", "b"] * 200)
    reference = pa.table({"c": words, "n": pa.array([1, 2] * 200, pa.int32())})
    current = pa.table({"c": words.dictionary_encode(), "n": pa.array([1, 2] * 200, pa.int64())})
    result = detect_drift(reference, current, columns={"c": "categorical", "n": "categorical"})
    assert [column.p_value for column in result.columns] == [1.0, 1.0]


def test_values_too_rare_to_compare_are_a_problem_not_an_ok() -> None:
    ids = [pa.table({"id": [f"{side}{i}" for i in range(500)]}) for side in "ab"]
    result = detect_drift(*ids, columns={"id": "categorical"})
    assert result.problems == ("column 'id': 100% of the rows hold values too rare to compare",)
    assert result.status == "insufficient_data"


def test_rare_values_are_pooled_until_the_test_can_bear_them() -> None:
    common, rare = ["a"] * 900 + ["b"] * 80, [f"r{i}" for i in range(20)]
    counts, pooled = contingency(pa.chunked_array([common + rare]), pa.chunked_array([common + rare]))
    assert counts.tolist() == [[900, 80, 20], [900, 80, 20]]
    assert pooled == pytest.approx(0.02)
    counts, _ = contingency(pa.chunked_array([[*common, "r"]]), pa.chunked_array([common]))
    assert counts.tolist() == [[900, 81], [900, 80]]


def test_cramers_v_does_not_depend_on_how_many_more_reference_rows_there_are() -> None:
    even = cramers_v(np.array([[9_000.0, 1_000.0], [8_000.0, 2_000.0]]))
    uneven = cramers_v(np.array([[9_000_000.0, 1_000_000.0], [8_000.0, 2_000.0]]))
    # ½ (0.01 ÷ 1.7 + 0.01 ÷ 0.3) by hand; the bias of 10,000 rows is below the tolerance.
    assert even == pytest.approx(0.14, abs=0.001)
    assert uneven == pytest.approx(even, abs=0.001)
    assert cramers_v(np.array([[50.0, 0.0], [0.0, 50.0]])) == pytest.approx(1.0, abs=0.01)


def test_holm_steps_down_and_stops_at_the_first_failure() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05) == [True, False, False, True]
    assert holm([0.02, 0.04], 0.05) == [True, True]
    assert holm([], 0.05) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {}}, "No column"),
        ({"columns": {"x": "text"}}, "kind 'text'"),
        ({"drift_threshold": 0.0}, "drift_threshold"),
        ({"drift_threshold": 5.0}, "drift_threshold"),
        ({"effect_limit": 1.5}, "effect_limit"),
        ({"min_rows": 1}, "min_rows"),
    ],
)
def test_arguments_out_of_range_are_refused(change: dict[str, object], message: str) -> None:
    table = pa.table({"x": [1.0]})
    arguments: dict[str, object] = {"columns": {"x": "numeric"}, **change}
    with pytest.raises(InputError, match=message):
        detect_drift(table, table, **arguments)  # type: ignore[arg-type]
