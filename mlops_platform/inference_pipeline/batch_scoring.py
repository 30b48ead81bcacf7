"""Scoring a stream of rows in bounded memory: batches of a fixed size in, the same rows with their scores out.

Belongs here: what the batches of a tick and of a user's own rows have in common. Does not belong here: where rows come
from (`batch.py`, `batch_input.py`), where scores go, the scoring itself (`predictor.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from mlops_platform.feature_pipeline.versions import require_computed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import date

    import pyarrow as pa

    from mlops_platform.inference_pipeline.predictor import Predictor

# The matrix of so many rows is 30 MB; larger ones score no faster (measured from 2,048 to 100,000 rows).
SCORING_ROWS = 65_536
NOTE_ROWS = 1_000_000


@dataclass(slots=True)
class Tally:
    """What a stream has scored so far.

    Args:
        note: Is told of the progress of long work, every million rows.
        total: Rows the stream will have; None: nobody knows.
        scored: Rows scored.
        predicted_churn: Those of them predicted to churn.
        probability_sum: Sum of their probabilities.
    """

    note: Callable[[str], object] | None = None
    total: int | None = None
    scored: int = 0
    predicted_churn: int = 0
    probability_sum: float = 0.0

    @property
    def figures(self) -> dict[str, int | float]:
        """The numbers a person looks at."""
        mean = self.probability_sum / self.scored if self.scored else 0.0
        return {"scored": self.scored, "predicted_churn": self.predicted_churn, "mean_probability": mean}

    def add(self, rows: int, churns: int, probability: float) -> None:
        """Counts scored rows, and says so where they pass a million."""
        before, self.scored = self.scored, self.scored + rows
        self.predicted_churn += churns
        self.probability_sum += probability
        if self.note is not None and before // NOTE_ROWS < self.scored // NOTE_ROWS:
            of = "" if self.total is None else f" of {self.total:,}"
            self.note(f"scored {self.scored:,}{of} rows")


def scored_batches(
    predictor: Predictor,
    batches: Iterable[pa.RecordBatch],
    *,
    schema: pa.Schema,
    constants: Mapping[str, Any],
    tally: Tally,
    batch_rows: int = SCORING_ROWS,
) -> Iterator[pa.RecordBatch]:
    """The rows with their scores, in the order they come in.

    Args:
        predictor: The model version.
        batches: Rows with feature_date and the model's features, in batches of any size.
        schema: The columns to hand on: the rows' own, the constants, and churn_probability, prediction, confidence and
            inference_latency_ms (the batch's scoring time a row).
        constants: Values that are the same in every row.
        tally: Counts them.
        batch_rows: Rows scored at once. Where a batch begins does not depend on how the rows come in: a model whose
            last bit depends on a row's place in its batch gives the same bits every time.

    Raises:
        NotEnoughDataError: A feature was not computed yet when a row was written.
    """
    for rows in recut(batches, batch_rows):
        require_computed(rows, predictor.feature_names)
        started = perf_counter()
        scores = predictor.score(rows)
        latency_ms = (perf_counter() - started) * 1000 / rows.num_rows
        tally.add(rows.num_rows, int(scores.prediction.sum()), float(scores.probability.sum()))
        found = {name: rows.column(name) for name in rows.column_names} | {
            "churn_probability": scores.probability,
            "prediction": scores.prediction,
            "confidence": scores.confidence,
        }
        yield from filled(schema, found, {**constants, "inference_latency_ms": latency_ms}, rows.num_rows).to_batches()


def filled(schema: pa.Schema, columns: Mapping[str, Any], constants: Mapping[str, Any], rows: int) -> pa.Table:
    """A table of the schema from the columns that there are, and constants for the others."""
    import pyarrow as pa

    cells = [
        columns[field.name] if field.name in columns else pa.repeat(pa.scalar(constants[field.name], field.type), rows)
        for field in schema
    ]
    return pa.table(cells, names=schema.names).cast(schema).combine_chunks()


def prediction_id_sql(feature_date: date, model_version: str, batch: str) -> str:
    """SQL of the prediction_id of a row with customer_id: a hash of customer, day, version and batch.

    Args:
        feature_date: The rows' day.
        model_version: The version that scores.
        batch: What tells this batch from another of the same day and version: a tick's microseconds, or a file's path.
    """
    rest = f"/{feature_date}/{model_version}/{batch}".replace("'", "''")
    return f"md5(customer_id || '{rest}')"


def recut(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[pa.Table]:
    """The same rows in the same order, in tables of exactly `size` rows; the last one may have fewer."""
    import pyarrow as pa

    held: list[pa.RecordBatch] = []
    waiting = 0
    for batch in batches:
        start = 0
        while waiting + batch.num_rows - start >= size:
            stop = start + size - waiting
            yield pa.Table.from_batches([*held, batch.slice(start, stop - start)])
            held, waiting, start = [], 0, stop
        if start < batch.num_rows:
            held.append(batch.slice(start))
            waiting += batch.num_rows - start
    if held:
        yield pa.Table.from_batches(held)
