"""Small shops in real tables: purchases as silver holds them, features of chosen days, training sets.

Belongs here: what tests of training, inference and monitoring build on. Does not belong here: tests, or what is right
about any of it (`oracles`).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa

from mlops_platform.contracts import SILVER_TRANSACTIONS
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.feature_pipeline.compute import compute_features
from mlops_platform.settings import Settings
from mlops_platform.storage.conditions import Condition, all_time
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import TableSnapshot
from mlops_platform.training_pipeline.dataset import training_set
from mlops_platform.training_pipeline.labels import labelled_dates
from mlops_platform_tests.oracles.features import Purchase

AT = datetime(2024, 7, 1, 2, tzinfo=UTC)
AS_OF = date(2024, 6, 30)


@dataclass(frozen=True)
class Shop:
    """A home's tables and the history that stands in them."""

    lake: Lake
    purchases: list[Purchase]
    as_of: date

    @property
    def settings(self) -> Settings:
        """The home."""
        return self.lake.settings

    @property
    def transactions(self) -> TableSnapshot:
        """silver.transactions."""
        return self.lake.snapshot(SILVER_TRANSACTIONS)

    @property
    def features(self) -> TableSnapshot:
        """feature_store.customer_features."""
        return self.lake.snapshot(self.lake.features.customer_features)

    @property
    def training(self) -> TableSnapshot:
        """ml.training_set."""
        return self.lake.snapshot(self.lake.features.training_set)

    def draft(self) -> Draft:
        """The training set as of the shop's last day."""
        return training_set(self.settings, self.features, self.transactions, as_of=self.as_of)


def history(customers: int = 250, days: int = 330, until: date = AS_OF, seed: int = 7) -> list[Purchase]:
    """Customers who buy at rates of their own until they leave; some amounts are refunds or gifts."""
    draw = random.Random(seed)
    found: list[Purchase] = []
    for number in range(customers):
        day = draw.uniform(0, days * 0.7)
        gap, leaving = draw.choice([4, 12, 30, 60]), draw.choice([0.02, 0.1, 0.25])
        while day < days:
            moment = datetime.combine(until, datetime.min.time()) + timedelta(days=1 - days + day)
            amount = Decimal(draw.choice([draw.randrange(100, 9000)] * 9 + [0, -500])).scaleb(-2)
            category, method = draw.choice(["books", "toys", None]), draw.choice(["card", "cash"])
            found.append(Purchase(f"c{number}", moment.replace(microsecond=0), amount, category, method))
            if draw.random() < leaving:
                break
            day += draw.expovariate(1 / gap)
    return found


def buy(customer: str, day: date, amount: str = "10.00", hour: int = 10) -> Purchase:
    """One purchase."""
    return Purchase(customer, datetime.combine(day, time(hour)), Decimal(amount), "books", "card")


def silver_rows(settings: Settings, purchases: Iterable[Purchase]) -> pa.Table:
    """Rows of silver.transactions."""
    rows = [
        {
            "transaction_id": f"t{number}",
            "customer_id": p.customer_id,
            "transaction_ts": p.local_ts.replace(tzinfo=settings.zone),
            "transaction_date": p.day,
            "transaction_hour": p.local_ts.hour,
            "amount": p.amount,
            "category": p.category,
            "payment_method": p.payment_method,
            "quantity": 1,
            "_batch_id": "b",
            "_source": "test",
        }
        for number, p in enumerate(purchases)
    ]
    return pa.Table.from_pylist(rows, schema=arrow_schema(SILVER_TRANSACTIONS))


def open_shop(
    settings: Settings, purchases: Sequence[Purchase], *, as_of: date = AS_OF, also: Iterable[date] = ()
) -> Shop:
    """Publishes a history, the features of every day a training as of `as_of` needs, and those of `also`."""
    first = min(p.day for p in purchases)
    shop = Shop(Lake(settings.model_copy(update={"history_start": first})), list(purchases), as_of)
    shop.lake.publish(Draft(SILVER_TRANSACTIONS, silver_rows(settings, purchases), scope=all_time("transaction_ts")))
    publish_features(shop, [*labelled_dates(as_of, first, settings.horizon_days).all, *also])
    return shop


def publish_features(shop: Shop, days: Iterable[date]) -> None:
    """Computes and publishes the features of some days, in one commit."""
    wanted = tuple(sorted(set(days)))
    rows = compute_features(shop.settings, shop.transactions, wanted, created_at=AT)
    contract = shop.lake.features.customer_features
    shop.lake.publish(Draft(contract, rows, scope=(Condition("feature_date", "in", wanted),)))
