"""Generator of the synthetic CRM: buy-till-you-die customers (BG/NBD) in operational time, as the CRM's two tables.

Belongs here: customers, their true purchases, and what a purchase looks like. Does not belong here: the blemishes
(`synthetic_dirt.py`), the parameters (`synthetic_model.py`), writing to a database (`crm_load.py`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_platform.data_pipeline.operational_time import OperationalClock
from mlops_platform.data_pipeline.synthetic_dirt import with_dirt
from mlops_platform.errors import InputError

if TYPE_CHECKING:
    from datetime import date

    from numpy.typing import NDArray

    from mlops_platform.data_pipeline.synthetic_model import SyntheticModel

CUSTOMERS_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("customer_id", "name", "email")),
        ("signup_date", pa.date32()),
        *((name, pa.string()) for name in ("country", "state", "city")),
        ("updated_at", pa.timestamp("us")),
    ]
)
TRANSACTIONS_SCHEMA = pa.schema(
    [
        ("transaction_id", pa.string()),
        ("customer_id", pa.string()),
        ("transaction_ts", pa.timestamp("us")),
        ("amount", pa.float64()),
        ("category", pa.string()),
        ("payment_method", pa.string()),
        ("quantity", pa.int64()),
        ("updated_at", pa.timestamp("us")),
    ]
)

_FIRST_NAMES = ("Ana", "Bruno", "Carla", "Diego", "Elena", "Felix", "Grace", "Hugo", "Iris", "Joana", "Karim", "Lucia")
_LAST_NAMES = ("Almeida", "Barros", "Costa", "Duarte", "Esteves", "Ferreira", "Gomes", "Lima", "Moreira", "Nunes")
_PLACES = (
    ("BR", "SP", "São Paulo"),
    ("BR", "SP", "Campinas"),
    ("BR", "RJ", "Rio de Janeiro"),
    ("BR", "MG", "Belo Horizonte"),
    ("BR", "PR", "Curitiba"),
    ("BR", "BA", "Salvador"),
    ("PT", "Lisboa", "Lisboa"),
    ("PT", "Porto", "Porto"),
)


class SyntheticCrm(NamedTuple):
    """The CRM's two tables, dirt included; times are naive local business time.

    Args:
        customers: One row a customer, `CUSTOMERS_SCHEMA`.
        transactions: Rows in no order, `TRANSACTIONS_SCHEMA`.
    """

    customers: pa.Table
    transactions: pa.Table


class _Population(NamedTuple):
    """Latent state, one entry a customer, in the order of their first purchases. It never leaves this module."""

    segment: NDArray[np.int64]
    rate: NDArray[np.float64]
    leaving: NDArray[np.float64]
    first: NDArray[np.float64]


def generate(customers: int, days: int, seed: int, until: date, model: SyntheticModel) -> SyntheticCrm:
    """A synthetic CRM over the local days until − days + 1 … until.

    Each customer belongs to one segment, first buys at a time that is even (in operational time) over the model's
    acquisition share of the days, then buys at a Poisson rate λ ~ Gamma(r, alpha) and leaves after each repeat purchase
    with chance p ~ Beta(a, b). Categories and payment methods follow the segment; amounts and quantities tell nothing.
    Each part draws from its own stream, so the true purchases don't depend on the shares of dirt.

    Args:
        customers: Number of customers, each with at least one purchase.
        days: Number of local days.
        seed: The same seed and arguments make the same tables.
        until: Last local day.
        model: The parameters.

    Raises:
        InputError: Fewer than one customer or day, or a negative seed.
    """
    if customers < 1 or days < 1 or seed < 0:
        raise InputError(
            f"{customers} customers over {days} days with seed {seed} can't be made",
            expected="at least 1 customer and 1 day, and a seed of at least 0",
        )
    people, process, look, dirt = np.random.default_rng(seed).spawn(4)
    clock = OperationalClock.spanning(model, until - timedelta(days=days - 1), until)
    population = _population(process, customers, clock.length * model.acquisition_share, model)
    owner, operational = _purchases(process, population, clock.length)
    # Whole seconds, rounded down: a purchase keeps its local day, and first purchases stay first.
    moments = clock.moments(operational).astype("datetime64[s]").astype("datetime64[us]")
    order = np.lexsort((owner, moments))
    owner, moments = owner[order], moments[order]
    ids = _labels("C", np.arange(customers))
    purchases = _transactions(look, population, owner, moments, ids=ids, model=model)
    first_moments = clock.moments(population.first).astype("datetime64[s]").astype("datetime64[us]")
    end = np.datetime64(until, "us") + np.timedelta64(1, "D")
    return SyntheticCrm(_customers(people, ids, first_moments), with_dirt(dirt, purchases, end, model))


def _population(rng: np.random.Generator, count: int, acquisition: float, model: SyntheticModel) -> _Population:
    segments = model.segments
    weight = np.array([s.weight for s in segments])
    segment = rng.choice(len(segments), size=count, p=weight / weight.sum())

    def each(values: list[float]) -> NDArray[np.float64]:
        return np.array(values, dtype=np.float64)[segment]

    return _Population(
        segment=segment,
        rate=rng.gamma(each([s.r for s in segments])) / each([s.alpha for s in segments]),
        leaving=rng.beta(each([s.a for s in segments]), each([s.b for s in segments])),
        first=np.sort(rng.uniform(0.0, acquisition, size=count)),
    )


def _purchases(
    rng: np.random.Generator, population: _Population, end: float
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Owners and operational times of all purchases before `end`; one round a repeat purchase of those still buying."""
    owner, time = np.arange(len(population.first)), population.first
    owners, times = [owner], [time]
    while owner.size:
        time = time + rng.exponential(size=owner.size) / population.rate[owner]
        inside = time < end
        owner, time = owner[inside], time[inside]
        owners.append(owner)
        times.append(time)
        stays = rng.random(owner.size) >= population.leaving[owner]
        owner, time = owner[stays], time[stays]
    return np.concatenate(owners), np.concatenate(times)


def _transactions(
    rng: np.random.Generator,
    population: _Population,
    owner: NDArray[np.int64],
    moments: NDArray[np.datetime64],
    *,
    ids: pa.Array,
    model: SyntheticModel,
) -> pa.Table:
    """The true purchases, one row each, in the order of their times."""
    count = owner.size
    segment = population.segment[owner]
    level = model.amount_median * np.exp(model.amount_level_sigma * rng.standard_normal(len(population.first)))
    amount = level[owner] * np.exp(model.amount_sigma * rng.standard_normal(count))
    time = pa.array(moments, pa.timestamp("us"))
    cells = {
        "transaction_id": _labels("T", np.arange(count)),
        "customer_id": ids.take(pa.array(owner)),
        "transaction_ts": time,
        "amount": np.maximum(np.round(amount, 2), 0.01),
        "category": _drawn(rng, model.categories, [s.category_weights for s in model.segments], segment),
        "payment_method": _drawn(rng, model.payment_methods, [s.payment_weights for s in model.segments], segment),
        "quantity": rng.geometric(model.quantity_stop, size=count),
        "updated_at": time,
    }
    return pa.table(cells, schema=TRANSACTIONS_SCHEMA)


def _drawn(
    rng: np.random.Generator,
    values: tuple[str, ...],
    weights: list[tuple[float, ...]],
    segment: NDArray[np.int64],
) -> pa.Array:
    """One of `values` for each entry of `segment`, by that segment's weights."""
    chances = np.array(weights, dtype=np.float64)
    steps = np.cumsum(chances / chances.sum(axis=1, keepdims=True), axis=1)[:, :-1]
    drawn = rng.random(segment.size)
    index = np.zeros(segment.size, dtype=np.int64)
    for step in steps.T:
        index += drawn >= step[segment]
    return pa.array(values, pa.string()).take(pa.array(index))


def _customers(rng: np.random.Generator, ids: pa.Array, first_moments: NDArray[np.datetime64]) -> pa.Table:
    """One row a customer, signed up on the day of the first purchase."""
    count = len(ids)

    def pick(values: tuple[str, ...]) -> pa.Array:
        return pa.array(values, pa.string()).take(pa.array(rng.integers(len(values), size=count)))

    first, last = pick(_FIRST_NAMES), pick(_LAST_NAMES)
    place = pa.array(rng.integers(len(_PLACES), size=count))
    mailbox = pc.utf8_lower(pc.binary_join_element_wise(first, last, ids, "."))
    country, state, city = (pa.array(names, pa.string()).take(place) for names in zip(*_PLACES, strict=True))
    cells = {
        "customer_id": ids,
        "name": pc.binary_join_element_wise(first, last, " "),
        "email": pc.binary_join_element_wise(mailbox, pa.scalar("example.com"), "@"),
        "signup_date": first_moments.astype("datetime64[D]"),
        "country": country,
        "state": state,
        "city": city,
        "updated_at": first_moments,
    }
    return pa.table(cells, schema=CUSTOMERS_SCHEMA)


def _labels(letter: str, numbers: NDArray[np.int64]) -> pa.Array:
    """Ids such as C0000001: a letter and a number of at least seven digits, from 1."""
    digits = pc.utf8_lpad(pa.array(numbers + 1).cast(pa.string()), 7, "0")
    return pc.binary_join_element_wise(pa.scalar(letter), digits, "")
