"""What the declarations mean, as digests, held against what was recorded: so that a version is never forgotten.

A digest covers what changes a feature's values: its column (not the wording) and how it is computed, with everything it
is computed from; of a derived feature the expression it compiles to, whatever its source looks like. The expression's
own tree is taken and not the SQL, which differs from one version of the SQL compiler to the next.

Belongs here: digests, and the comparison with the record. Does not belong here: the file (`contracts`), printing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import Enum
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.feature_record import STANDARD_RECORD, FeatureRecord, read_record, write_record
from mlops_platform.contracts.features import MEASURES, Derived, Score
from mlops_platform.errors import InputError
from mlops_platform.feature_pipeline.derived import derived_value
from mlops_platform.feature_pipeline.measures import needed_measures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mlops_platform.contracts.feature_set import FeatureSet
    from mlops_platform.contracts.features import Aggregate, Feature, MostFrequent

_IBIS_TYPES = {"INTEGER": "int32", "DOUBLE": "float64", "VARCHAR": "string"}


@dataclass(frozen=True, slots=True)
class Recorded:
    """One record beside the declarations it is of: the standard features, or a user's own.

    Args:
        path: The record's file.
        before: What it held.
        after: What the declarations are, under the version they have or would get.
    """

    path: Path
    before: FeatureRecord
    after: FeatureRecord

    @property
    def is_standard(self) -> bool:
        """Whether it is the record of the standard features."""
        return self.path == STANDARD_RECORD

    @property
    def added(self) -> list[str]:
        """Features that were not recorded."""
        return [name for name in self.after.digests if name not in self.before.digests]

    @property
    def changed(self) -> list[str]:
        """Features that meant something else."""
        recorded = self.before.digests
        return [name for name, digest in self.after.digests.items() if recorded.get(name, digest) != digest]

    @property
    def removed(self) -> list[str]:
        """Features that are declared no longer."""
        return [name for name in self.before.digests if name not in self.after.digests]

    @property
    def is_changed(self) -> bool:
        """Whether anything differs."""
        return bool(self.added or self.changed or self.removed)

    def words(self) -> str:
        """What differs, in words."""
        named = {"added": self.added, "changed": self.changed, "removed": self.removed}
        return "; ".join(f"{what} {', '.join(names)}" for what, names in named.items() if names)


def require_recorded(features: FeatureSet) -> None:
    """Refuses declarations that mean something else than the recorded ones: their rows would carry a wrong version.

    Raises:
        InputError: They do; the message names what was added, changed and removed.
    """
    for found in compare(features):
        if found.is_changed:
            which = "the standard features" if found.is_standard else "the features of your own"
            state = f"those recorded as {found.before.version}" if found.before.digests else "recorded yet"
            raise InputError(
                f"{which} are not {state}: {found.words()}",
                expected="declarations whose version is recorded, since every row carries it",
                hint="mlops features record",
            )


def record(features: FeatureSet, *, keep_version: bool = False) -> list[Recorded]:
    """Records what the declarations mean now.

    Args:
        features: The declarations.
        keep_version: The meaning is the same although digests differ: the version stays. A first record gets one.

    Returns:
        For each record what it held and what it holds; where nothing differs nothing was written.
    """
    done = []
    for found in compare(features):
        if found.is_changed:
            keeps = keep_version and found.path.exists()
            version = found.before.version if keeps else found.before.raised().version
            found = Recorded(found.path, found.before, FeatureRecord(version, found.after.digests))  # noqa: PLW2901
            write_record(found.path, found.after)
        done.append(found)
    return done


def compare(features: FeatureSet) -> list[Recorded]:
    """The records of a set of features beside its declarations; the standard features' first."""
    standard, own = digests(features)
    parts = [(STANDARD_RECORD, standard)]
    if features.own_record is not None:
        parts.append((features.own_record, own))
    found = []
    for path, part in parts:
        before = read_record(path)
        found.append(Recorded(path, before, FeatureRecord(before.version, part)))
    return found


@lru_cache(maxsize=16)
def digests(features: FeatureSet) -> tuple[dict[str, str], dict[str, str]]:
    """Digests of the standard features and of a user's own, by name.

    A user's own feature may be computed from standard ones: these count by name, their own record covers what they are.

    Raises:
        InputError: A derived feature can't be compiled, or a score has the name of a measure.
    """
    taken = {measure.name for measure in needed_measures(features.features)}
    for feature in features.features:
        # The rolling engine hands scores over beside the measures, as columns of one table.
        if isinstance(feature.how, Score) and feature.name in taken:
            raise InputError(f"the score {feature.name} has the name of a measure", expected="another name")
    measures = {name: _digest(_fields(how)) for name, how in MEASURES.items()}
    standard = features.features[: len(features.features) - len(features.own)]
    ours = _digests((), standard, measures)
    return ours, _digests(standard, features.own, {name: name for name in (*measures, *ours)})


def _digests(before: Sequence[Feature], features: Sequence[Feature], known: Mapping[str, str]) -> dict[str, str]:
    """Digests of features, each from those of what it is computed from."""
    import ibis

    types = dict.fromkeys(MEASURES, "int64")
    types |= {f.name: _IBIS_TYPES[f.column.type.value] for f in (*before, *features)}
    table = ibis.table(types, name="state")
    columns = SimpleNamespace(**{name: table[name] for name in (*MEASURES, *(f.name for f in before))})
    found = dict(known)
    for feature in features:
        found[feature.name] = _digest([_column(feature), _how(feature, columns, found)])
        setattr(columns, feature.name, table[feature.name])
    return {feature.name: found[feature.name] for feature in features}


def _column(feature: Feature) -> list[Any]:
    column = feature.column
    bounds = [None if bound is None else float(bound) for bound in (column.ge, column.le)]
    allowed = None if column.isin is None else sorted(map(repr, column.isin))
    return [column.name, column.type.value, column.unit, *bounds, allowed]


def _how(feature: Feature, columns: SimpleNamespace, known: Mapping[str, str]) -> Any:
    import ibis.expr.operations as ops

    how = feature.how
    if isinstance(how, Score):
        return ["Score", known[how.of], how.is_larger_better]
    if isinstance(how, Derived):
        value = derived_value(feature, columns).op()
        meaning, again = (_plain(each, known) for each in (value, derived_value(feature, columns).op()))
        if meaning != again or value.find((ops.Impure, ops.TimestampNow, ops.DateNow)):
            expected = "the same from equal purchases, without chance or the clock"
            raise InputError(f"feature {feature.name} is another one each time it is computed", expected=expected)
        return ["Derived", meaning]
    return [type(how).__name__, _fields(how)]


def _fields(how: Aggregate | MostFrequent) -> dict[str, Any]:
    """What is set: a field that declarations get in a later version, and that says nothing here, changes no digest."""
    return {name: value for name, value in asdict(how).items() if value is not None}


def _plain(node: Any, known: Mapping[str, str]) -> Any:
    """A node of an Ibis expression as plain data; a column stands for the digest of what is in it."""
    import ibis.expr.datatypes as dt
    import ibis.expr.operations as ops

    if isinstance(node, ops.Field):
        return ["column", known[node.name]]
    if isinstance(node, ops.Node):
        return [type(node).__name__, *(_plain(part, known) for part in node.args)]
    if isinstance(node, tuple | list):
        return [_plain(part, known) for part in node]
    if isinstance(node, dt.DataType):
        return str(node)
    return node.name if isinstance(node, Enum) else repr(node)


def _digest(what: Any) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
