"""Fixtures of the engines: whether Spark can run here, and silver tables for all of them.

Does not belong here: what one test alone needs.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.read import TableSnapshot
from mlops_platform_tests.engines.silver_tables import drawn_purchases, published
from mlops_platform_tests.oracles.features import Purchase
from mlops_platform_tests.scale import IS_FULL, rounds
from tools.fetched_file import FetchError
from tools.maven import fetched

# 250 histories around each: a leap day, ends of a month and a year, and one long before the others.
DAYS = (date(2011, 7, 16), date(2023, 12, 31), date(2024, 2, 29), date(2025, 1, 1))
HISTORIES_A_DAY = rounds(250, 60)


@dataclass(frozen=True)
class Silver:
    """Transactions in the real table of a home, and as the oracle sees them."""

    settings: Settings
    transactions: TableSnapshot
    purchases: list[Purchase]


@pytest.fixture(scope="session")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file in which Spark's Java, once started, looks for the keys of a bucket."""
    return tmp_path_factory.mktemp("aws") / "credentials"


@pytest.fixture(scope="session", autouse=True)
def iceberg(credentials: Path) -> Iterator[None]:
    """Iceberg's jars, if they can be had, and no keys yet, for the one Spark of all tests."""
    if importlib.util.find_spec("pyspark") is None:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
        if not IS_FULL:
            # Java's second compiler costs more than few rows win by it: 53 CPU s for three feature_dates, 28 without.
            patch.setenv("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1")
        with suppress(FetchError):
            jars = [fetched(name) for name in ("iceberg-spark", "iceberg-aws", "postgresql")]
            patch.setenv("MLOPS_SPARK_JARS", ",".join(map(str, jars)))
        yield


@pytest.fixture
def spark() -> Iterator[None]:
    """Skips the test where Spark can't run."""
    if importlib.util.find_spec("pyspark") is None:
        pytest.skip("PySpark is not installed; `make test-engines` runs this")
    if not os.environ.get("JAVA_HOME") and shutil.which("java") is None:
        pytest.skip("there is no Java, which Spark runs on")
    with warnings.catch_warnings():
        # PySpark leaves the sockets that rows came through to the garbage collector.
        warnings.filterwarnings("ignore", "unclosed <socket", ResourceWarning)
        yield
        gc.collect()


@pytest.fixture(scope="session")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Silver:
    """Drawn histories around the days, all in one table: 1,000 with FULL_PROOFS=1."""
    # Signs that are patterns to Spark and Hadoop, a folder that reads as a partition, and one that reads as hidden.
    lake = Lake(load_settings(home=tmp_path_factory.mktemp("histories") / "a [b] {c}*" / "year=1999" / ".mlops"))
    purchases = [purchase for day in DAYS for purchase in drawn_purchases(day, HISTORIES_A_DAY)]
    return Silver(lake.settings, published(lake, purchases), purchases)
