"""Drift decisions on tables whose truth is known, because the test drew them."""

from __future__ import annotations

import math
from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pytest

from mlops_platform.errors import InputError
from mlops_platform.monitoring.drift import DriftResult, Kind, detect_drift, kind_of
from mlops_platform.monitoring.two_samples import contingency, cramers_v, holm
from mlops_platform_tests.scale import rounds
from mlops_platform_tests.unit.monitoring.drifting import COLUMNS, draw, outcomes


def rows(seed: int, count: int, planted: Collection[str] = ()) -> pa.Table:
    """Rows of COLUMNS, with shifts of 0.3 sd or a doubled share in the planted ones."""
    return draw(np.random.default_rng(seed), count, planted)


def named(result: DriftResult) -> set[str]:
    return set(result.drifted)


def p_values(result: DriftResult) -> list[float]:
    return [column.p_value for column in result.columns if column.p_value is not None]


DRAWS = rounds(200, 40)


# Measured over 200 draws: none at either number of rows. Without the effect limit 2.5 and 4.5 % raise an alarm.
@pytest.mark.parametrize(("count", "most_alarms"), [(500, 0.05), (5_000, 0.02)])
def test_unchanged_data_rarely_alarms(count: int, most_alarms: float) -> None:
    assert outcomes(DRAWS, count, is_planted=False).alarms <= most_alarms * DRAWS


# Measured over 200 draws: 95 % at 500 rows, where no rate is promised, and all at 5,000.
@pytest.mark.parametrize(("count", "least_found"), [(500, 0.8), (5_000, 0.95)])
def test_planted_shifts_are_found_and_no_other_column_is_named(count: int, least_found: float) -> None:
    found = outcomes(DRAWS, count, is_planted=True)
    assert found.exact >= least_found * DRAWS, found.missed
    assert found.others_named <= 0.05 * DRAWS


def test_every_kind_of_column_is_found_and_columns_keep_their_order() -> None:
    planted = {"normal_0", "uniform_0", "spend_0", "count_0", "hour_0", "sparse_0", "category_2"}
    result = detect_drift(rows(1, 5_000), rows(2, 5_000, planted), columns=COLUMNS)
    assert named(result) == planted
    assert (result.status, result.drift_detected) == ("drift", True)
    assert [column.column for column in result.columns] == list(COLUMNS)


def test_a_shift_of_a_uniform_column_counts_as_much_as_one_of_a_normal_column() -> None:
    rng = np.random.default_rng(4)
    noise = {"normal": rng.normal(size=(2, 50_000)), "uniform": rng.uniform(size=(2, 50_000)) * 12**0.5}
    before, after = (pa.table({name: sides[at] + 0.3 * at for name, sides in noise.items()}) for at in (0, 1))
    result = detect_drift(before, after, columns={"normal": "numeric", "uniform": "numeric"})
    effects = [column.effect for column in result.columns]
    # Cliff's delta: 2 Φ(0.3 ÷ √2) − 1, and 1 − (1 − 0.3 ÷ √12)².
    assert effects == pytest.approx([0.168, 0.166], abs=0.01)
    # The gap between the cumulative shares alone would stay below the limit.
    assert result.columns[1].statistic == pytest.approx(0.0866, abs=0.008)


def test_a_change_of_spread_alone_is_drift() -> None:
    rng = np.random.default_rng(5)
    before, after = (pa.table({"x": rng.normal(0, sd, 5_000)}) for sd in (1, 2))
    result = detect_drift(before, after, columns={"x": "numeric"})
    assert result.status == "drift"
    assert result.columns[0].effect == result.columns[0].statistic


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


@pytest.mark.parametrize("count", [0, 99])
def test_too_few_rows_are_an_answer_of_their_own(count: int) -> None:
    result = detect_drift(rows(1, 3_000), rows(2, count, COLUMNS), columns=COLUMNS)
    assert (result.status, result.drift_detected, result.current_rows) == ("insufficient_data", False, count)
    assert result.problems == (f"current has {count} rows, fewer than the 100 needed",)
    assert all(column.p_value is None and not column.drifted for column in result.columns)


def test_missing_and_mistyped_columns_are_named_and_the_others_still_compared() -> None:
    reference, current = rows(1, 3_000), rows(2, 3_000, {"normal_0"})
    current = current.drop_columns(["spend_1"]).set_column(1, "normal_1", pa.array(["1"] * 3_000))
    result = detect_drift(reference, current, columns=COLUMNS)
    assert result.problems == (
        "column 'normal_1': is string in current, which can't be compared as numeric",
        "column 'spend_1': missing in current",
    )
    assert named(result) == {"normal_0"}
    unshifted = detect_drift(reference, rows(2, 3_000).drop_columns(["spend_1"]), columns=COLUMNS)
    assert unshifted.status == "insufficient_data"


def test_constant_null_and_nan_columns_are_judged_without_raising() -> None:
    count = 300
    table = pa.table(
        {
            "constant": pa.array([7] * count),
            "one_word": pa.array(["only"] * count),
            "all_null": pa.nulls(count, pa.float64()),
            "untyped_null": pa.nulls(count),
            "all_nan": pa.array([math.nan] * count),
            "infinite": pa.array([math.inf, -math.inf, 1.0] * (count // 3)),
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


def test_a_columns_kind_follows_from_its_type() -> None:
    kinds = {
        pa.int32(): "numeric",
        pa.decimal128(18, 2): "numeric",
        pa.bool_(): "categorical",
        pa.string(): "categorical",
        pa.dictionary(pa.int32(), pa.string()): "categorical",
        pa.date32(): None,
        pa.timestamp("us"): None,
        pa.list_(pa.int8()): None,
    }
    assert {found: kind_of(found) for found in kinds} == kinds
