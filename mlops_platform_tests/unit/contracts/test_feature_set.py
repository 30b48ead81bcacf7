"""Sets of features: the standard ones, a user's own after them, and what is said of a declaration at fault."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlops_platform.contracts import STANDARD, Column, ColumnType, FeatureSet, all_contracts, load_feature_set
from mlops_platform.contracts.features import Aggregate, Derived, Feature, MostFrequent, Score
from mlops_platform.errors import InputError
from mlops_platform_tests.unit.own_features import FORTNIGHT, Declare

INT, DOUBLE, STRING = ColumnType.INT, ColumnType.DOUBLE, ColumnType.STRING


def feature(how: Any, kind: ColumnType = INT, name: str = "mine", **more: Any) -> Feature:
    return Feature(Column(name, kind, "A feature", **more), how)


COUNT = Aggregate("count", 7)

FAULTS: list[tuple[str, list[Feature], str]] = [
    ("two of one name", [feature(COUNT), feature(COUNT)], "feature mine is declared twice"),
    ("the key's name", [feature(COUNT, name="customer_id")], "customer_id can't be a feature"),
    ("the day's name", [feature(COUNT, name="feature_date")], "feature_date can't be a feature"),
    ("the label's name", [feature(COUNT, name="churned")], "churned can't be a feature"),
    ("the score's name", [feature(COUNT, name="churn_probability")], "churn_probability can't be a feature"),
    ("bookkeeping", [feature(COUNT, name="_created_at")], "'_created_at' is no name.*the platform's own"),
    ("a measure's name", [feature(COUNT, name="_cents_365d")], "'_cents_365d' is no name.*the platform's own"),
    ("capitals", [feature(COUNT, name="Mine")], "'Mine' is no name of a feature"),
    ("a name with a quote", [feature(COUNT, name='a"b')], "is no name of a feature"),
    ("a window of 0", [feature(Aggregate("count", 0))], "feature mine has a window of 0 days.*1 or more, or None"),
    ("a negative window", [feature(Aggregate("count", -7))], "has a window of -7 days"),
    ("half a day", [feature(Aggregate("count", 0.5))], "has a window of 0.5 days"),  # type: ignore[arg-type]
    ("a window that is true", [feature(Aggregate("count", True))], "has a window of True days"),
    ("no aggregate", [feature(Aggregate("median", 7))], "the aggregate 'median'.*count, sum, avg"),  # type: ignore[arg-type]
    ("no source", [feature(Aggregate("count", 7, "is_monday"))], "count of 'is_monday'.*\"is_weekend\""),
    (
        "a flag's sum",
        [feature(Aggregate("sum", 7, "is_weekend"), DOUBLE)],
        'sum of \'is_weekend\'.*"amount" or "cents"',
    ),
    ("cents' mean", [feature(Aggregate("avg", 7, "cents"), DOUBLE)], "avg of 'cents'.*source=\"amount\""),
    ("a share of all", [feature(Aggregate("share", 7), DOUBLE)], "share of 'amount'.*\"is_weekend\""),
    ("a whole mean", [feature(Aggregate("avg", 7))], "for the aggregate avg.*ColumnType.DOUBLE"),
    ("a count as text", [feature(COUNT, STRING)], "for the aggregate count.*ColumnType.INT or ColumnType.DOUBLE"),
    (
        "no label",
        [feature(MostFrequent("city", 7, "x"), STRING)],
        'most frequent \'city\'.*"category" or "payment_method"',
    ),
    ("an empty window", [feature(MostFrequent("category", 0, "x"), STRING)], "has a window of 0 days.*1 or more\\."),
    ("all history", [feature(MostFrequent("category", None, "x"), STRING)], "has a window of None"),  # type: ignore[arg-type]
    ("another type", [feature(MostFrequent("category", 7, "x"))], "but category is another.*ColumnType.STRING"),
    ("a number for a text", [feature(MostFrequent("category", 7, 0), STRING)], "has the default 0.*its type, str"),
    ("a text for a number", [feature(MostFrequent("transaction_hour", 7, "-"))], "has the default '-'.*its type, int"),
    (
        "a score of nothing",
        [feature(Score("nothing"))],
        "a score of 'nothing', which is no feature or measure before it",
    ),
    (
        "a score of a later one",
        [feature(Score("later")), feature(COUNT, name="later")],
        "a score of 'later', which is no feature or measure before it",
    ),
    ("a score of itself", [feature(Score("mine"))], "a score of 'mine', which is no feature or measure before it"),
    (
        "a score of a fraction",
        [feature(Aggregate("avg", 7), DOUBLE, "mean"), feature(Score("mean"))],
        "a score of mean, which is no whole number.*_cents_365d",
    ),
    ("a score that is a fraction", [feature(Score("_cents_365d"), DOUBLE)], "but is a score.*ColumnType.INT"),
    ("no expression", [feature(Derived("t.x"))], "an expression that can't be called"),  # type: ignore[arg-type]
    ("no way to compute", [feature("count")], "is computed by 'count'.*Aggregate"),
    ("a long", [feature(COUNT, ColumnType.LONG)], "has the type ColumnType.LONG.*INT, ColumnType.DOUBLE or"),
    ("money", [feature(COUNT, ColumnType.MONEY)], "has the type ColumnType.MONEY"),
    ("a type by name", [feature(COUNT, "INTEGER")], "has the type INTEGER"),  # type: ignore[arg-type]
    ("nulls", [feature(COUNT, nullable=True)], "is nullable.*a value for every customer"),
    ("bounds of a text", [feature(MostFrequent("category", 7, "x"), STRING, ge=0)], "a text with bounds"),
    ("bounds crossed", [feature(COUNT, ge=5, le=1)], "from 5 to 1"),
    ("no value allowed", [feature(COUNT, isin=())], "no value at all"),
]


@pytest.mark.parametrize(("features", "words"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS])
def test_a_declaration_at_fault_is_named_with_what_was_expected(features: list[Feature], words: str) -> None:
    with pytest.raises(InputError, match=words):
        FeatureSet(tuple(features))


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        (Aggregate("count", 1), INT),
        (Aggregate("count", None, "is_weekend"), DOUBLE),
        (Aggregate("share", 30, "is_in_calendar_month"), DOUBLE),
        (Aggregate("sum", 30, "cents"), INT),
        (Aggregate("first"), INT),
        (MostFrequent("payment_method", 1, ""), STRING),
        (Score("_days_since_last", is_larger_better=False), INT),
        (Derived(lambda t: t._purchase_dates), DOUBLE),
    ],
)
def test_every_kind_of_declaration_can_be_made(how: Any, kind: ColumnType) -> None:
    made = FeatureSet((feature(how, kind),))
    assert made.names == ("mine",)
    assert made.kinds == {"mine": "categorical" if kind is STRING else "numeric"}


class TestAUsersModule:
    def test_its_features_come_after_the_standard_ones_in_every_table(self, declare: Declare) -> None:
        found = load_feature_set(declare(FORTNIGHT))
        assert found.names == (*STANDARD.names, "total_transactions_14d")
        (own,) = found.own
        assert own.column.unit == "purchases"
        contracts = all_contracts(found)
        for name in ("feature_store.customer_features", "ml.training_set"):
            assert own.column in contracts[name].columns
            assert own.column not in all_contracts()[name].columns
        assert contracts.keys() == all_contracts().keys()

    def test_it_is_imported_once(self, declare: Declare) -> None:
        module = declare(FORTNIGHT)
        assert load_feature_set(module) is load_feature_set(module)

    def test_a_module_in_a_package(self, declare: Declare, tmp_path: Path) -> None:
        folder = tmp_path / "own_shop"
        folder.mkdir()
        (folder / "__init__.py").touch()
        module = declare(FORTNIGHT)
        (tmp_path / f"{module}.py").rename(folder / "inside.py")
        found = load_feature_set("own_shop.inside")
        assert found.own_record == folder / "inside.features.json"

    def test_a_fault_in_it_is_named(self, declare: Declare) -> None:
        again = 'Feature(Column("tenure_days", INT, "Again", ge=0), Aggregate("first"))'
        with pytest.raises(InputError, match="feature tenure_days is declared twice"):
            load_feature_set(declare(again))

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("X = 1", "declares no FEATURES.*FEATURES = "),
            ("FEATURES = 5", "is of the type int.*FEATURES = "),
            ("FEATURES = {}", "is of the type dict"),
            ("FEATURES = ['total']", "holds 'total'.*Feature"),
            ("FEATURES = [", "can't be imported: SyntaxError in line 1"),
            ("raise RuntimeError('why')", "can't be imported: RuntimeError: why"),
            ("import not_there_at_all", "can't be imported: ModuleNotFoundError: No module named 'not_there_at_all'"),
        ],
    )
    def test_a_module_that_declares_nothing(self, declare: Declare, tmp_path: Path, text: str, words: str) -> None:
        module = declare()
        (tmp_path / f"{module}.py").write_text(text)
        with pytest.raises(InputError, match=f"the module {module}.*{words}") as caught:
            load_feature_set(module)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("module", ["no_such_features", "no_such_package.features", "json.no_such_features"])
    def test_a_module_that_is_not_there(self, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(InputError, match=f"{module}, which can't be found.*{re.escape(str(tmp_path))}.*PYTHONPATH"):
            load_feature_set(module)

    def test_the_working_directory_is_looked_in(self, declare: Declare, tmp_path: Path) -> None:
        module = declare(FORTNIGHT)
        # -P: as in a console script, the working directory is not on the path by itself.
        code = f"from mlops_platform.contracts import load_feature_set as f; print(f({module!r}).names[-1])"
        command = [sys.executable, "-P", "-c", code]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert run.stdout.strip() == "total_transactions_14d"
