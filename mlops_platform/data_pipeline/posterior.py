"""The best possible churn score on a synthetic CRM: the exact posterior chance of no purchase in the horizon.

It sees what any model sees, the purchases so far, and knows the parameters of the process but nobody's latent state. No
score can have a higher expected ROC-AUC. Does not belong here: the process itself (`synthetic.py`), any real CRM.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mlops_platform.data_pipeline.operational_time import OperationalClock
from mlops_platform.errors import InputError

if TYPE_CHECKING:
    from datetime import date

    import pyarrow as pa
    from numpy.typing import NDArray

    from mlops_platform.data_pipeline.synthetic_model import SyntheticModel


class _Histories(NamedTuple):
    """One entry a customer, in the order of `customer_id`; times in operational days since the first purchase."""

    customer_id: Any
    repeats: NDArray[np.int64]  # x
    last: NDArray[np.float64]  # t_x
    age: NDArray[np.float64]  # T
    horizon: float  # h
    evidence: NDArray[np.float64]  # log likelihood of categories and payments, shape (customers, segments)


def no_purchase_probability(model: SyntheticModel, purchases: pa.Table, at: date, horizon_days: int) -> pa.Table:
    r"""P(no purchase in local days at+1 … at+horizon | all purchases on or before the end of day `at`), exactly.

    Derivation, for one customer of segment s. In operational time since the first purchase, repeat purchases come at
    times t_1 … t_x ≤ T at rate λ ~ Gamma(r, α); after each one the customer leaves with chance p ~ Beta(a, b)
    (BG/NBD: Fader, Hardie, Lee 2005, "Counting your customers the easy way"). Given λ and p, the history's density is
    that of staying x times and then being silent for T − t_x, or of staying x − 1 times and leaving at t_x:

        λ^x · (1 − p)^x · e^(−λT)   +   [x > 0] · λ^x · p · (1 − p)^(x−1) · e^(−λ·t_x)

    Integrated over λ and p, with G(u) = Γ(r + x) ÷ Γ(r) · α^r · (α + u)^−(r + x):

        alive_s(T) = B(a, b + x) ÷ B(a, b) · G(T),    dead_s = [x > 0] · B(a + 1, b + x − 1) ÷ B(a, b) · G(t_x)

    A further silence of operational length h multiplies the alive part by e^(−λh), which makes it alive_s(T + h), and
    leaves the dead part as it is. With L_s = weight_s · ∏ P(category | s) · ∏ P(payment | s), missing values skipped:

        P = Σ_s L_s · (alive_s(T + h) + dead_s) ÷ Σ_s L_s · (alive_s(T) + dead_s)

    What is equal for all segments cancels: the time of the first purchase, the pace at each purchase (the Jacobian of
    operational time), amounts, quantities, lost categories.

    Args:
        model: The parameters the purchases were drawn from.
        purchases: customer_id, transaction_ts (naive local time), category, payment_method; cleaned purchases only.
            Rows after day `at` are ignored.
        at: Last local day that is known.
        horizon_days: Length of the horizon in local days, at least 1.

    Returns:
        Table of customer_id and probability, ordered by customer_id: every customer with a purchase so far.

    Raises:
        InputError: The horizon is shorter than a day, a customer_id or time is missing, times carry a time zone, or a
            category or payment method is not the model's.
    """
    import pyarrow as pa
    from scipy.special import betaln, gammaln

    if horizon_days < 1:
        raise InputError(f"a horizon of {horizon_days} days is too short", expected="at least 1 day")
    known = _histories(model, purchases, at, horizon_days)
    x = known.repeats
    quiet, total = [], []
    for s, segment in enumerate(model.segments):
        r, alpha, a, b = segment.r, segment.alpha, segment.a, segment.b
        prior = np.log(segment.weight) + known.evidence[:, s] + gammaln(r + x) - gammaln(r) + r * np.log(alpha)
        prior -= betaln(a, b)
        stayed = prior + betaln(a, b + x)
        left = prior + betaln(a + 1, b + np.maximum(x, 1) - 1) - (r + x) * np.log(alpha + known.last)
        left = np.where(x > 0, left, -np.inf)
        quiet.append(np.logaddexp(stayed - (r + x) * np.log(alpha + known.age + known.horizon), left))
        total.append(np.logaddexp(stayed - (r + x) * np.log(alpha + known.age), left))
    probability = np.exp(np.logaddexp.reduce(quiet, axis=0) - np.logaddexp.reduce(total, axis=0))
    return pa.table({"customer_id": known.customer_id, "probability": np.minimum(probability, 1.0)}).sort_by(
        "customer_id"
    )


def _histories(model: SyntheticModel, purchases: pa.Table, at: date, horizon_days: int) -> _Histories:
    import pyarrow as pa

    _check(purchases)
    end = np.datetime64(at, "us") + np.timedelta64(1, "D")
    moments = purchases.column("transaction_ts").to_numpy().astype("datetime64[us]")
    purchases, moments = purchases.filter(pa.array(moments < end)), moments[moments < end]
    customers = purchases.column("customer_id").cast(pa.string()).combine_chunks().dictionary_encode()
    codes = customers.indices.to_numpy().astype(np.int64)
    count = len(customers.dictionary)

    first_day = moments.min().astype("datetime64[D]").item() if moments.size else at
    clock = OperationalClock.spanning(model, first_day, at + timedelta(days=horizon_days))
    operational = clock.operational(moments)
    first = np.full(count, np.inf)
    np.minimum.at(first, codes, operational)
    last = np.zeros(count)
    np.maximum.at(last, codes, operational)
    today = float(clock.operational(np.array(end)))
    evidence = np.zeros((count, len(model.segments)))
    for name, values, weights in (
        ("category", model.categories, [s.category_weights for s in model.segments]),
        ("payment_method", model.payment_methods, [s.payment_weights for s in model.segments]),
    ):
        evidence += _evidence(purchases.column(name), values, np.array(weights, dtype=np.float64), codes, count)
    return _Histories(
        customer_id=customers.dictionary,
        repeats=np.bincount(codes, minlength=count) - 1,
        last=last - first,
        age=today - first,
        horizon=clock.length - today,
        evidence=evidence,
    )


def _evidence(
    column: pa.ChunkedArray,
    values: tuple[str, ...],
    weights: NDArray[np.float64],
    codes: NDArray[np.int64],
    count: int,
) -> NDArray[np.float64]:
    """Log likelihood of a column's values under each segment, shape (customers, segments); nulls say nothing."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.index_in(column.cast(pa.string()), value_set=pa.array(values, pa.string()))
    if found.null_count > column.null_count:
        unknown = pc.unique(column.filter(pc.and_(pc.is_valid(column), pc.is_null(found)))).to_pylist()
        raise InputError(f"the model knows no {sorted(unknown)[0]!r}", expected=f"one of {', '.join(values)}")
    width = len(values) + 1
    cells = codes * width + pc.fill_null(found, len(values)).to_numpy().astype(np.int64)
    counts = np.bincount(cells, minlength=count * width).reshape(count, width)[:, :-1]
    chances = weights / weights.sum(axis=1, keepdims=True)
    return np.asarray(counts @ np.log(chances).T, dtype=np.float64)


def _check(purchases: pa.Table) -> None:
    import pyarrow as pa

    kind = purchases.schema.field("transaction_ts").type
    if not pa.types.is_timestamp(kind) or kind.tz is not None:
        raise InputError(
            f"transaction_ts is {kind}",
            expected="naive local business time",
            hint="convert it to the business time zone and drop the zone",
        )
    if purchases.column("customer_id").null_count or purchases.column("transaction_ts").null_count:
        raise InputError("a purchase has no customer_id or no time", expected="purchases as they are in silver")
