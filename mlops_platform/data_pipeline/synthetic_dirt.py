"""Blemishes of the synthetic CRM: what real CRMs deliver beside, before and instead of the clean row.

Cleaning (latest `updated_at` of each transaction_id, no row without a customer, amount > 0) gives back exactly the true
purchases; only a lost category stays lost. Does not belong here: the purchases themselves (`synthetic.py`), cleaning
(`processing.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlops_platform.data_pipeline.synthetic_model import SyntheticModel

_US_PER_DAY = 86_400_000_000
_MEAN_DELAY_DAYS = 2.0


def with_dirt(rng: np.random.Generator, purchases: pa.Table, end: np.datetime64, model: SyntheticModel) -> pa.Table:
    """The true purchases with the model's blemishes among them, in no order.

    Args:
        rng: Source of chance, used by nothing else.
        purchases: The true purchases in the CRM's columns, updated when they happened.
        end: Midnight that ends the last day; every time of every row lies before it.
        model: Its `dirt`, and the categories for wrong versions.
    """
    dirt = model.dirt
    is_lost = rng.random(purchases.num_rows) < dirt.uncategorized
    purchases = _with(purchases, category=pc.if_else(pa.array(is_lost), None, purchases.column("category")))
    purchases, wrong = _corrected(rng, purchases, end, model)
    resent = _chosen(rng, purchases, dirt.resent)
    resent = _with(resent, updated_at=_later(rng, resent.column("updated_at"), end))
    rows = pa.concat_tables(
        [purchases, wrong, resent, _cancellations(rng, purchases, end, model), _orphans(rng, purchases, model)]
    )
    return rows.take(pa.array(rng.permutation(rows.num_rows))).combine_chunks()


def _corrected(
    rng: np.random.Generator, purchases: pa.Table, end: np.datetime64, model: SyntheticModel
) -> tuple[pa.Table, pa.Table]:
    """The purchases, some with a later `updated_at`, and the wrong versions those had before."""
    is_corrected = rng.random(purchases.num_rows) < model.dirt.corrected
    wrong = purchases.filter(pa.array(is_corrected))
    right = purchases.column("amount").to_numpy()[is_corrected]
    other = np.maximum(np.round(right * rng.uniform(0.5, 1.5, size=right.size), 2), 0.01)
    other = np.where(other == right, right + 1.0, other)
    # Where there is no other category to mistake it for, the amount was wrong.
    is_amount = (rng.random(right.size) < 0.5) | (len(model.categories) == 1)
    index = pc.fill_null(pc.index_in(wrong.column("category"), pa.array(model.categories, pa.string())), 0)
    next_one = pa.array((index.to_numpy() + 1) % len(model.categories))
    mistaken = pa.array(model.categories, pa.string()).take(next_one)
    wrong = _with(
        wrong,
        amount=np.where(is_amount, other, right),
        category=pc.if_else(pa.array(is_amount), wrong.column("category"), mistaken),
    )
    updated = purchases.column("updated_at").to_numpy().copy()
    updated[is_corrected] = _later(rng, wrong.column("updated_at"), end)
    return _with(purchases, updated_at=updated), wrong


def _cancellations(
    rng: np.random.Generator, purchases: pa.Table, end: np.datetime64, model: SyntheticModel
) -> pa.Table:
    rows = _chosen(rng, purchases, model.dirt.cancelled)
    moments = _later(rng, rows.column("transaction_ts"), end)
    return _with(
        rows,
        transaction_id=_prefixed("X", rows),
        transaction_ts=moments,
        updated_at=moments,
        amount=pc.negate(rows.column("amount")),
    )


def _orphans(rng: np.random.Generator, purchases: pa.Table, model: SyntheticModel) -> pa.Table:
    rows = _chosen(rng, purchases, model.dirt.orphaned)
    return _with(rows, transaction_id=_prefixed("N", rows), customer_id=pa.nulls(rows.num_rows, pa.string()))


def _chosen(rng: np.random.Generator, rows: pa.Table, share: float) -> pa.Table:
    return rows.filter(pa.array(rng.random(rows.num_rows) < share))


def _later(rng: np.random.Generator, moments: pa.ChunkedArray, end: np.datetime64) -> NDArray[np.datetime64]:
    """Times after `moments`, by two days on average, and before `end`.

    A delay takes at most half of what is left, so that a delay after a delay still fits.
    """
    before = moments.to_numpy()
    left = (end - before).astype(np.int64)
    delay = (rng.exponential(_MEAN_DELAY_DAYS * _US_PER_DAY, size=left.size)).astype(np.int64) + 1
    return np.asarray(before + np.minimum(delay, left // 2).astype("timedelta64[us]"))


def _prefixed(letter: str, rows: pa.Table) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(pa.scalar(letter), rows.column("transaction_id"), "")


def _with(rows: pa.Table, **cells: Any) -> pa.Table:
    """The table with columns replaced, in its own schema."""
    columns = {name: cells.get(name, rows.column(name)) for name in rows.column_names}
    return pa.table(columns, schema=rows.schema)
