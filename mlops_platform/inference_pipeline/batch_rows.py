"""A user's rows scored into a file, and beside it what was not scored and why.

Belongs here: one pass over the rows into both files. Does not belong here: what is wrong with a row (`batch_input.py`),
where the files are (`batch_files.py`), the call (`batch_pipeline.py`).
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from mlops_platform.contracts import PREDICTIONS
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.inference_pipeline.batch_files import ParquetFile
from mlops_platform.inference_pipeline.batch_input import CUSTOMER, DETAIL, REASON, ROW, judged_rows
from mlops_platform.inference_pipeline.batch_scoring import Tally, prediction_id_sql, scored_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import date, datetime
    from pathlib import Path

    from mlops_platform.inference_pipeline.batch_files import OutputFile
    from mlops_platform.inference_pipeline.batch_input import GivenRows, JudgedRows
    from mlops_platform.inference_pipeline.predictor import Predictor
    from mlops_platform.storage.read import TableSnapshot

_LEFT = pa.schema(
    [
        pa.field("row", pa.int64(), nullable=False),
        ("customer_id", pa.string()),
        pa.field("reason", pa.string(), nullable=False),
        ("detail", pa.string()),
    ]
)
_LEFT_FROM = (ROW, CUSTOMER, REASON, DETAIL)


@dataclass(frozen=True, slots=True)
class ScoredFile:
    """What became of a user's rows.

    Args:
        scored: Rows scored.
        not_scored: The others, by reason.
        feature_snapshot_id: Snapshot of the feature store that features come from; None: all were given.
        is_new: False when both files held the same already and are as they were.
    """

    scored: int
    not_scored: dict[str, int]
    feature_snapshot_id: int | None
    is_new: bool


def score_rows(
    predictor: Predictor,
    rows: GivenRows,
    features: TableSnapshot,
    target: OutputFile,
    *,
    feature_date: date,
    created_at: datetime,
    note: Callable[[str], object] | None = None,
    batch_rows: int,
) -> ScoredFile:
    """Scores rows into a file, in their order and in bounded memory.

    The file has the columns of ml.predictions, but for the tick, and after them the features that the rows brought.

    Args:
        predictor: The model version.
        rows: As `judged_rows` takes them.
        features: Snapshot of feature_store.customer_features.
        target: The file.
        feature_date: The day whose features complete the rows.
        created_at: Instant written to `_created_at`.
        note: Is told of the progress, every million rows.
        batch_rows: Rows scored at once.

    Raises:
        InputError: As `judged_rows`.
        NotEnoughDataError: The feature store lacks the day, or a feature of the model on it.
        StorageError: The files can't be written.
    """
    tally, left = Tally(note), Counter[str]()
    with ExitStack() as stack:
        judged = stack.enter_context(
            judged_rows(
                target.settings,
                rows,
                features,
                names=predictor.feature_names,
                feature_date=feature_date,
                prediction_id=prediction_id_sql(feature_date, predictor.model.version, target.relative),
                batch_rows=batch_rows,
            )
        )
        places = (target.not_scored, target)
        drafts = [stack.enter_context(place.draft()) for place in places]
        constants = {
            "model_name": predictor.model.name,
            "model_version": predictor.model.version,
            "feature_snapshot_id": judged.feature_snapshot_id,
            "_created_at": created_at,
        }
        with ParquetFile(drafts[0], _LEFT) as others, ParquetFile(drafts[1], _schema(judged.given)) as file:
            to_score = _to_score(judged, others, left)
            for batch in scored_batches(
                predictor, to_score, schema=file.schema, constants=constants, tally=tally, batch_rows=batch_rows
            ):
                file.add(batch)
        is_new = _replace(places, drafts)
    return ScoredFile(tally.scored, dict(left), judged.feature_snapshot_id, is_new)


def _replace(places: Sequence[OutputFile], drafts: Sequence[Path]) -> bool:
    """Puts drafts in their places, unless every place holds the same already; returns whether it did."""
    written = list(zip(places, drafts, strict=True))
    if all(place.holds(draft, PREDICTIONS.volatile) for place, draft in written):
        return False
    for place, draft in written:
        place.replace(draft)
    return True


def _to_score(judged: JudgedRows, others: ParquetFile, left: Counter[str]) -> Iterator[pa.RecordBatch]:
    """The rows to score; the others are written and counted."""
    for batch in judged.reader:
        rows = batch.filter(batch.column(REASON).is_valid())
        if rows.num_rows:
            others.add(pa.RecordBatch.from_arrays([rows.column(name) for name in _LEFT_FROM], schema=_LEFT))
            left.update({each["values"]: each["counts"] for each in rows.column(REASON).value_counts().to_pylist()})
        yield batch.filter(batch.column(REASON).is_null())


def _schema(given: tuple[pa.Field, ...]) -> pa.Schema:
    """The file's columns: those of ml.predictions, but for the tick, and the features that the rows brought."""
    own = [
        field.with_nullable(True) if field.name == "feature_snapshot_id" else field
        for field in arrow_schema(PREDICTIONS)
        if field.name != "tick"
    ]
    return pa.schema([*own, *given])
