"""Rows computed before an erasure are not published after it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mlops_platform.data_pipeline.processing import silver_draft
from mlops_platform.data_pipeline.transformations import CUSTOMERS, TRANSACTIONS, SilverTable
from mlops_platform.erasure import erase
from mlops_platform.errors import ConflictError
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform_tests.unit.data_pipeline.crms import customer, transaction
from mlops_platform_tests.unit.data_pipeline.test_processing import deliver

NOW = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.fixture
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake(load_settings(home=tmp_path_factory.mktemp("home"), hmac_key="k" * 32, max_rejected_share=1.0))


@pytest.mark.parametrize("table", [CUSTOMERS, TRANSACTIONS], ids=lambda table: table.contract.name)
def test_silver_computed_before_an_erasure_is_refused(keyed: Lake, table: SilverTable) -> None:
    rows = customer if table is CUSTOMERS else transaction
    deliver(keyed, table.bronze, rows(1, customer_id="gone"), rows(2, customer_id="stays"))
    draft = silver_draft(keyed, table)
    erase(keyed, ["gone"], now=NOW)
    with pytest.raises(ConflictError, match="erased since"):
        keyed.publish(draft)
    keyed.publish(silver_draft(keyed, table))
    assert keyed.snapshot(table.contract).to_arrow(["customer_id"])["customer_id"].to_pylist() == ["stays"]


def test_a_rejected_row_of_an_erased_customer_is_refused(keyed: Lake) -> None:
    deliver(keyed, TRANSACTIONS.bronze, transaction(1, customer_id="gone", amount="?"), transaction(2))
    draft = silver_draft(keyed, TRANSACTIONS)
    erase(keyed, ["gone"], now=NOW)
    with pytest.raises(ConflictError, match="erased since"):
        keyed.publish(draft)
