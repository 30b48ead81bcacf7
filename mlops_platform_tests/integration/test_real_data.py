"""Real histories from files to features, every cell of every customer against the oracle.

The data is no part of the project: where `../shared/data` is not there, these tests are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mlops_platform.contracts import QUARANTINE, SILVER_CUSTOMERS, SILVER_TRANSACTIONS, STANDARD
from mlops_platform.data_pipeline.crm import SOURCE_TABLES, span
from mlops_platform.data_pipeline.crm_load import Load, import_files
from mlops_platform.data_pipeline.ingestion import new_rows
from mlops_platform.data_pipeline.processing import silver_draft
from mlops_platform.data_pipeline.transformations import SILVER_TABLES
from mlops_platform.feature_pipeline.compute import compute_features
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.oracles.features import Purchase, features_at
from mlops_platform_tests.properties.comparing import by_customer, differences

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
AT = datetime(2024, 5, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Known:
    """What is known of a data set: its counts, its first and last day, and two feature_dates to look at."""

    name: str
    customers: int
    transactions: int
    first: date
    last: date
    feature_dates: tuple[date, date]


CDNOW = Known("cdnow", 23_570, 69_659, date(1997, 1, 1), date(1998, 6, 30), (date(1997, 12, 31), date(1998, 3, 31)))
GROCERIES = Known(
    name="completejourney_sample",
    customers=2_377,
    transactions=75_000,
    first=date(2017, 1, 1),
    last=date(2018, 1, 1),
    feature_dates=(date(2017, 3, 1), date(2017, 9, 30)),
)


class Imported:
    """A data set imported, ingested and processed in a home of its own."""

    def __init__(self, known: Known, folder: Path) -> None:
        self.known = known
        self.lake = Lake(load_settings(home=folder / "home"))
        self.url = f"sqlite:///{folder / 'crm.db'}"
        self.load = import_files(DATA / known.name, self.url)
        self.ingest(AT)
        for table in SILVER_TABLES:
            self.lake.publish(silver_draft(self.lake, table))

    def ingest(self, at: datetime) -> list[bool]:
        drafts = [new_rows(self.lake, self.url, table, source="crm", ingested_at=at) for table in SOURCE_TABLES]
        return [self.lake.publish(draft).is_new for draft in drafts]

    def purchases(self) -> Iterator[Purchase]:
        """The file's rows as the oracle takes them: neither set has anything that silver rejects."""
        for row in pq.read_table(DATA / self.known.name / "transactions.parquet").to_pylist():
            amount = Decimal(repr(row["amount"])).quantize(Decimal("0.01"))
            moment = row["transaction_ts"].replace(tzinfo=None)
            yield Purchase(row["customer_id"], moment, amount, row["category"], row["payment_method"])


@pytest.fixture(scope="module", params=[CDNOW, GROCERIES], ids=lambda known: known.name)
def imported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Imported:
    known: Known = request.param
    if not (DATA / known.name / "transactions.parquet").is_file():
        pytest.skip(f"no {known.name} in ../shared/data beside the project")
    return Imported(known, tmp_path_factory.mktemp(known.name))


def test_no_row_is_lost_or_made(imported: Imported) -> None:
    known, lake = imported.known, imported.lake
    assert imported.load == Load(known.customers, known.transactions, is_new=True)
    assert lake.snapshot(SILVER_TRANSACTIONS).count() == known.transactions
    assert lake.snapshot(SILVER_CUSTOMERS).count() == known.customers
    assert lake.snapshot(QUARANTINE).count() == 0


def test_the_span_is_the_data_sets(imported: Imported) -> None:
    found = span(imported.lake.settings, imported.url)
    assert (found.first_day, found.last_day) == (imported.known.first, imported.known.last)


def test_every_cell_of_every_customer_is_the_oracles(imported: Imported) -> None:
    transactions = imported.lake.snapshot(SILVER_TRANSACTIONS)
    days = imported.known.feature_dates
    rows = compute_features(imported.lake.settings, transactions, days, created_at=AT)
    purchases = list(imported.purchases())
    for day in days:
        found = by_customer(rows.filter(pc.equal(rows["feature_date"], day)))
        assert len(found) > imported.known.customers * 0.75
        assert differences(found, features_at(purchases, day)) == []
    outcomes = Draft(STANDARD.customer_features, rows).audit()
    assert [outcome.name for outcome in outcomes if not outcome.passed] == []


def test_all_of_it_again_changes_nothing(imported: Imported) -> None:
    assert not import_files(DATA / imported.known.name, imported.url).is_new
    assert imported.ingest(AT + timedelta(days=1)) == [False, False]
