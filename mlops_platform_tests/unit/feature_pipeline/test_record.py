"""The record of the declarations: what counts as another meaning, and what follows when nobody recorded it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ibis
import pytest

from mlops_platform.contracts import STANDARD, Column, ColumnType, FeatureSet, load_feature_set
from mlops_platform.contracts.features import FEATURES, Aggregate, Derived, Feature, MostFrequent, Score
from mlops_platform.errors import InputError
from mlops_platform.feature_pipeline.record import Recorded, compare, digests, record, require_recorded
from mlops_platform_tests.unit.own_features import FORTNIGHT, LAST_HOUR, Declare

INT, DOUBLE = ColumnType.INT, ColumnType.DOUBLE
COUNT = Feature(Column("count_of_mine", INT, "A feature", ge=0), Aggregate("count", 14))
RATIO = Feature(Column("ratio", DOUBLE, "A ratio", ge=0), Derived(lambda t: t.count_of_mine.cast("float64") / 14.0))


def own(*features: Feature, path: Path = Path("unused.json")) -> FeatureSet:
    return FeatureSet((*FEATURES, *features), path)


def digest_of(name: str, *features: Feature) -> str:
    return digests(own(*features))[1][name]


def test_the_standard_features_are_recorded() -> None:
    """Fails when a declaration was changed and nobody ran `mlops features record`."""
    require_recorded(STANDARD)
    assert STANDARD.version == "v1.0"


def test_looking_costs_next_to_nothing() -> None:
    require_recorded(STANDARD)
    start = time.perf_counter()
    require_recorded(STANDARD)
    assert time.perf_counter() - start < 0.05


class TestDigests:
    @pytest.mark.parametrize(
        "column",
        [
            replace(COUNT.column, type=DOUBLE),
            replace(COUNT.column, unit="purchases"),
            replace(COUNT.column, ge=1),
            replace(COUNT.column, ge=None),
            replace(COUNT.column, le=9),
            replace(COUNT.column, isin=(0, 1)),
        ],
    )
    def test_another_column_is_another_meaning(self, column: Column) -> None:
        assert digest_of("count_of_mine", replace(COUNT, column=column)) != digest_of("count_of_mine", COUNT)

    @pytest.mark.parametrize(
        "how", [Aggregate("count", 15), Aggregate("count"), Aggregate("days", 14), Aggregate("count", 14, "is_weekend")]
    )
    def test_another_computation_is_another_meaning(self, how: Aggregate) -> None:
        assert digest_of("count_of_mine", replace(COUNT, how=how)) != digest_of("count_of_mine", COUNT)

    def test_another_wording_or_way_of_writing_is_not(self) -> None:
        column = replace(COUNT.column, meaning="Said otherwise", ge=0.0)
        assert digest_of("count_of_mine", replace(COUNT, column=column)) == digest_of("count_of_mine", COUNT)
        allowed, turned = (replace(COUNT, column=replace(COUNT.column, isin=each)) for each in ((1, 2), (2, 1)))
        assert digest_of("count_of_mine", allowed) == digest_of("count_of_mine", turned)

    @pytest.mark.parametrize("change", [{"of": "_days_since_last"}, {"is_larger_better": False}])
    def test_a_score(self, change: dict[str, Any]) -> None:
        score = Feature(Column("score", INT, "A score"), Score("_purchase_dates"))
        changed = replace(score, how=replace(score.how, **change))
        assert digest_of("score", changed) != digest_of("score", score)

    @pytest.mark.parametrize("change", [{"source": "payment_method"}, {"window_days": 8}, {"default": "none"}])
    def test_a_most_frequent_value(self, change: dict[str, Any]) -> None:
        usual = Feature(Column("usual", ColumnType.STRING, "Usual"), MostFrequent("category", 7, "unknown"))
        assert digest_of("usual", replace(usual, how=replace(usual.how, **change))) != digest_of("usual", usual)

    @pytest.mark.parametrize(
        ("expression", "is_same"),
        [
            (lambda mine: mine.count_of_mine.cast("float64") / 14.0, True),
            (lambda t: (t.count_of_mine).cast(ibis.dtype("float64")) / (7.0 + 7.0), True),
            (lambda t: t.count_of_mine.cast("float64") / 15.0, False),
            (lambda t: t.count_of_mine.cast("float64") * 14.0, False),
            (lambda t: t.tenure_days.cast("float64") / 14.0, False),
            (lambda t: t.count_of_mine.cast("int64") / 14.0, False),
            (lambda t: ibis.coalesce(t.count_of_mine.cast("float64") / 14.0, 0.0), False),
        ],
    )
    def test_a_derived_feature_is_what_it_compiles_to(self, expression: Callable[[Any], Any], is_same: bool) -> None:
        other = replace(RATIO, how=Derived(expression))
        assert (digest_of("ratio", COUNT, other) == digest_of("ratio", COUNT, RATIO)) == is_same

    def test_what_a_feature_is_computed_from_is_part_of_its_meaning(self) -> None:
        score = Feature(Column("score", INT, "A score"), Score("count_of_mine"))
        changed = replace(COUNT, how=Aggregate("count", 15))
        before, after = (digests(own(count, RATIO, score))[1] for count in (COUNT, changed))
        assert {name for name in before if before[name] != after[name]} == {"count_of_mine", "ratio", "score"}

    def test_a_standard_feature_changes_what_is_computed_from_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        place = STANDARD.names.index("total_transactions_365d")
        changed = replace(FEATURES[place], how=Aggregate("count", 364))
        features = FeatureSet((*FEATURES[:place], changed, *FEATURES[place + 1 :]))
        before, after = (digests(each)[0] for each in (STANDARD, features))
        found = {name for name in before if before[name] != after[name]}
        assert found == {"total_transactions_365d", "monthly_seasonality", "frequency_score", "engagement_score"}

    def test_standard_features_have_a_record_of_their_own(self) -> None:
        assert digests(own(COUNT))[0] == digests(STANDARD)[0]
        assert digests(STANDARD)[1] == {}


def derived(expression: Callable[[Any], Any]) -> Feature:
    return Feature(Column("bad", DOUBLE, "A feature at fault"), Derived(expression))


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (
            [derived(lambda t: t.tenure_day / 2)],
            "bad refers to tenure_day, which is no feature or measure.*tenure_days",
        ),
        ([derived(lambda t: t.bad + 1)], "bad refers to bad, which is no feature or measure before it"),
        ([derived(lambda t: t.count_of_mine), COUNT], "refers to count_of_mine.*earlier in the list"),
        ([derived(lambda t: t.tenure_days.no_such_method())], "bad can't be computed: AttributeError"),
        ([derived(lambda t: 1 / 0)], "bad can't be computed: ZeroDivisionError"),
        ([derived(lambda: 1)], "bad can't be computed: TypeError"),  # type: ignore[misc, arg-type]
        ([derived(lambda t: 5)], "bad gives 5.*an expression of columns"),
        ([derived(lambda t: t.tenure_days * ibis.random())], "bad is another one each time"),
        ([derived(lambda t: t.tenure_days * random.random())], "bad is another one each time"),
        ([derived(lambda t: ibis.today().year() - t.tenure_days)], "bad is another one each time"),
        ([derived(lambda t: ibis.now().year() - t.tenure_days)], "bad is another one each time"),
        ([Feature(Column("count_30d", INT, "A score"), Score("_cents_365d"))], "count_30d has the name of a measure"),
    ],
)
def test_what_only_compiling_shows(features: list[Feature], words: str) -> None:
    with pytest.raises(InputError, match=words):
        require_recorded(own(*features))


def test_a_measures_name_is_free_where_no_score_takes_it() -> None:
    assert digest_of("count_30d", Feature(Column("count_30d", INT, "Purchases"), Aggregate("count", 30)))


class TestRecording:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "mine.features.json"

    @staticmethod
    def last(done: list[Recorded]) -> tuple[str, list[str], list[str], list[str]]:
        return done[-1].after.version, done[-1].added, done[-1].changed, done[-1].removed

    def test_publishing_asks_for_it_and_the_version_rises(self, path: Path) -> None:
        first = own(COUNT, path=path)
        assert first.version == "v1.0+u0"
        with pytest.raises(InputError, match=r"not recorded yet: added count_of_mine.*mlops features record"):
            require_recorded(first)
        assert self.last(record(first)) == ("u1", ["count_of_mine"], [], [])
        require_recorded(first)
        assert first.version == "v1.0+u1"

        second = own(replace(COUNT, how=Aggregate("count", 15)), RATIO, path=path)
        words = "not those recorded as u1: added ratio; changed count_of_mine"
        with pytest.raises(InputError, match=words):
            require_recorded(second)
        assert self.last(record(second)) == ("u2", ["ratio"], ["count_of_mine"], [])

        third = own(path=path)
        with pytest.raises(InputError, match="recorded as u2: removed count_of_mine, ratio"):
            require_recorded(third)
        assert self.last(record(third)) == ("u3", [], [], ["count_of_mine", "ratio"])
        require_recorded(third)

    def test_twice_changes_nothing(self, path: Path) -> None:
        record(own(COUNT, path=path))
        before = path.read_bytes(), path.stat().st_mtime_ns
        (standard, mine) = record(own(COUNT, path=path))
        assert not standard.is_changed
        assert not mine.is_changed
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before

    def test_the_version_can_be_kept(self, path: Path) -> None:
        # The first one gets a version all the same: rows must carry one.
        assert self.last(record(own(COUNT, path=path), keep_version=True))[0] == "u1"
        changed = own(replace(COUNT, how=Aggregate("count", 15)), path=path)
        assert self.last(record(changed, keep_version=True)) == ("u1", [], ["count_of_mine"], [])
        require_recorded(changed)

    def test_a_change_of_the_standard_features_is_theirs(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Path
    ) -> None:
        copy = tmp_path / "standard.json"
        known = dict(digests(STANDARD)[0])
        known["churn_score"] = "other"
        copy.write_text(json.dumps({"version": "v1.9", "features": known}))
        for module in ("mlops_platform.feature_pipeline.record", "mlops_platform.contracts.feature_set"):
            monkeypatch.setattr(f"{module}.STANDARD_RECORD", copy)
        with pytest.raises(
            InputError, match=r"the standard features are not those recorded as v1\.9: changed churn_score"
        ):
            require_recorded(STANDARD)
        (done,) = record(STANDARD)
        assert (done.after.version, done.changed, done.is_standard) == ("v1.10", ["churn_score"], True)
        require_recorded(STANDARD)
        assert own(COUNT, path=path).version == "v1.10+u0"

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{}",
            '{"version": "v1.0"}',
            '{"version": "new", "features": {}}',
            '{"version": "u1", "features": 1}',
        ],
    )
    def test_a_file_that_is_no_record(self, path: Path, text: str) -> None:
        path.write_text(text)
        with pytest.raises(InputError, match=r"mine\.features\.json is no record of features"):
            require_recorded(own(COUNT, path=path))

    def test_a_folder_that_cannot_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="can't be written"):
            record(own(COUNT, path=tmp_path / "absent" / "mine.features.json"))

    def test_it_stands_beside_the_module(self, declare: Declare, tmp_path: Path) -> None:
        module = declare(FORTNIGHT, LAST_HOUR)
        features = load_feature_set(module)
        record(features)
        written = json.loads((tmp_path / f"{module}.features.json").read_text())
        assert written["version"] == "u1"
        assert list(written["features"]) == ["total_transactions_14d", "usual_hour"]
        assert [found.is_changed for found in compare(features)] == [False, False]
