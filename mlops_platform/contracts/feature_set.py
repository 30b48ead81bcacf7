"""A set of feature declarations, and the tables that follow from it: the standard ones, and after them a user's own.

Belongs here: which features a home has. Does not belong here: the declarations (`features.py`), what is wrong with one
(`feature_rules.py`), computing any (`feature_pipeline`).
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlops_platform.contracts.feature_record import STANDARD_RECORD, read_record
from mlops_platform.contracts.feature_rules import BOOKKEEPING, require_valid
from mlops_platform.contracts.features import FEATURES, Feature
from mlops_platform.contracts.ml import SPLITS, TARGET
from mlops_platform.contracts.table import Column, ColumnType, Partition, Replace, TableContract
from mlops_platform.errors import InputError

if TYPE_CHECKING:
    from types import ModuleType

STRING, INT, DATE = ColumnType.STRING, ColumnType.INT, ColumnType.DATE

_EXAMPLE = "FEATURES = [Feature(Column(…), Aggregate(…)), …]"


@dataclass(frozen=True)
class FeatureSet:
    """Features in order, and what follows from them.

    Args:
        features: The declarations; a derived one may use those before it.
        own_record: File that records the user's own features, those after the standard ones; None: there are none.

    Raises:
        InputError: A declaration is at fault.
    """

    features: tuple[Feature, ...]
    own_record: Path | None = None

    def __post_init__(self) -> None:
        require_valid(self.features)

    @property
    def own(self) -> tuple[Feature, ...]:
        """The user's own features."""
        return self.features[len(FEATURES) :] if self.own_record is not None else ()

    @property
    def version(self) -> str:
        """Version of the declarations as recorded: `v1.0`, with a user's own `v1.0+u2`.

        Read anew each time: a long-lived process must not write rows under a version that was recorded since.
        """
        standard = read_record(STANDARD_RECORD).version
        return standard if self.own_record is None else f"{standard}+{read_record(self.own_record).version}"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """Columns of the features."""
        return tuple(feature.column for feature in self.features)

    @cached_property
    def kinds(self) -> dict[str, Literal["numeric", "categorical"]]:
        """Whether a model and a drift test treat each as a number or a category."""
        return {feature.name: feature.kind for feature in self.features}

    @cached_property
    def customer_features(self) -> TableContract:
        """Contract of feature_store.customer_features."""
        return TableContract(
            name="feature_store.customer_features",
            description="The feature store: the state of every customer with a purchase so far, at the end of local "
            "day feature_date.",
            columns=(
                Column("customer_id", STRING, "Customer"),
                Column("feature_date", DATE, "Local day at whose end the features hold"),
                *self.columns,
                *BOOKKEEPING,
            ),
            key=("customer_id", "feature_date"),
            partitions=(Partition("feature_date", "month"),),
            replace=Replace.RANGE,
            range_column="feature_date",
            volatile=frozenset({"_created_at"}),
            version_property="feature-version",
            version_tag="features",
        )

    @cached_property
    def training_set(self) -> TableContract:
        """Contract of ml.training_set."""
        return TableContract(
            name="ml.training_set",
            description="Labelled rows of the last training: features at past feature_dates, and whether the customer "
            "churned after each. Test rows are later in time than every training label.",
            columns=(
                Column("split", STRING, "train, validation (threshold) or test", isin=SPLITS),
                Column("customer_id", STRING, "Customer"),
                Column("feature_date", DATE, "Local day at whose end the features hold"),
                *self.columns,
                Column(TARGET, INT, "1: no purchase in the horizon after feature_date", isin=(0, 1)),
            ),
            key=("customer_id", "feature_date"),
            partitions=(Partition("split", "identity"),),
        )


STANDARD = FeatureSet(FEATURES)


@lru_cache(maxsize=16)
def load_feature_set(module: str | None) -> FeatureSet:
    """The standard features, and after them those that a user's module declares as `FEATURES`.

    Args:
        module: The module's name, from `Settings.features_module`; None: the standard features only.

    Raises:
        InputError: The module can't be imported, or a declaration in it is at fault.
    """
    if module is None:
        return STANDARD
    found = _import(module)
    declared = getattr(found, "FEATURES", None)
    if declared is None:
        raise InputError(f"the module {module} declares no FEATURES", expected=_EXAMPLE)
    if not isinstance(declared, list | tuple):
        raise InputError(f"FEATURES in the module {module} is of the type {type(declared).__name__}", expected=_EXAMPLE)
    for each in declared:
        if not isinstance(each, Feature):
            raise InputError(f"FEATURES in the module {module} holds {each!r}", expected=_EXAMPLE)
    where = Path(str(found.__file__))
    return FeatureSet((*FEATURES, *declared), where.with_name(f"{module.rpartition('.')[2]}.features.json"))


def _import(module: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        # A console script does not look for modules where it is started. At the end: no file there hides a library.
        sys.path.append(here)
    try:
        return importlib.import_module(module)
    except Exception as error:
        is_missing = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
        raise _not_imported(module, here, None if is_missing else error) from error


def _not_imported(module: str, here: str, error: Exception | None) -> InputError:
    setting = f"MLOPS_FEATURES_MODULE names the module {module}"
    if error is None:
        return InputError(
            f"{setting}, which can't be found",
            expected=f"a module in the working directory {here}, or on PYTHONPATH",
            hint="start the command in the module's folder, or put that folder on PYTHONPATH.",
        )
    cause: Any = error.args[0] if isinstance(error, SyntaxError) else error
    place = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
    return InputError(f"{setting}, which can't be imported: {type(error).__name__}{place}: {cause}", hint="mend it.")
