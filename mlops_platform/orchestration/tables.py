"""Which asset is which table, and what follows from a contract in Dagster: check specs, column docs, publishing.

Does not belong here: the contracts, the assets.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform import contracts
from mlops_platform.contracts.schemas import CHECK_NAMES, KEY, NOT_NULL, SCHEMA, VALUES
from mlops_platform.contracts.table import Replace
from mlops_platform.data_pipeline.processing import HAS_ROWS, REJECTED_SHARE, ROWS_ACCOUNTED
from mlops_platform.errors import ContractError
from mlops_platform.inference_pipeline.prediction_log import REJECTED_CHECK
from mlops_platform.monitoring.tick import NO_DRIFT_CHECK
from mlops_platform.orchestration.markdown import plain
from mlops_platform.storage.audit import RANGE_CHECK, CheckOutcome, require
from mlops_platform.storage.publish import Draft, publish_quarantine

if TYPE_CHECKING:
    from mlops_platform.contracts import FeatureSet, TableContract
    from mlops_platform.settings import Settings

# Asset → name of its table.
TABLES: dict[dg.AssetKey, str] = {
    dg.AssetKey(["bronze", "crm_customers"]): contracts.BRONZE_CUSTOMERS.name,
    dg.AssetKey(["bronze", "crm_transactions"]): contracts.BRONZE_TRANSACTIONS.name,
    dg.AssetKey(["silver", "customers"]): contracts.SILVER_CUSTOMERS.name,
    dg.AssetKey(["silver", "transactions"]): contracts.SILVER_TRANSACTIONS.name,
    dg.AssetKey(["feature_store", "customer_features"]): contracts.STANDARD.customer_features.name,
    dg.AssetKey(["ml", "training_set"]): contracts.STANDARD.training_set.name,
    dg.AssetKey(["ml", "predictions"]): contracts.PREDICTIONS.name,
    dg.AssetKey(["ml", "online_predictions"]): contracts.ONLINE_PREDICTIONS.name,
    dg.AssetKey(["monitoring", "drift_report"]): contracts.DRIFT.name,
    dg.AssetKey(["monitoring", "performance_report"]): contracts.PERFORMANCE.name,
}

CHECK_WORDS = {
    SCHEMA: "Columns and types are the contract's.",
    KEY: "No key occurs twice.",
    NOT_NULL: "No required column holds a null.",
    VALUES: "Every value lies within its contract: bounds, allowed values, finite numbers.",
    RANGE_CHECK: "Every row lies in the published range.",
    ROWS_ACCOUNTED: "Rows read = published + quarantined + superseded.",
    REJECTED_SHARE: "The share of quarantined rows is within the limit.",
    HAS_ROWS: "There are rows to work on.",
    REJECTED_CHECK: "Every line of the prediction log is a prediction.",
    NO_DRIFT_CHECK: "Neither a feature nor the scores of the tick's predictions have drifted from the training rows.",
}

Decorator = Callable[[Callable[..., Any]], dg.AssetsDefinition]

NON_BLOCKING = frozenset({HAS_ROWS, REJECTED_CHECK, NO_DRIFT_CHECK})


def table_asset(
    key: Sequence[str], *, features: FeatureSet = contracts.STANDARD, extra_checks: Sequence[str] = (), **more: Any
) -> Decorator:
    """`@dg.asset` for a table: key, group, docs and checks come from its contract.

    Args:
        key: Asset key; its first part is the group.
        features: The home's features, for the tables that hold them.
        extra_checks: Checks the domain function reports itself.
        **more: Further arguments of `@dg.asset`.
    """
    asset_key = dg.AssetKey(list(key))
    contract = contracts.all_contracts(features)[TABLES[asset_key]]
    names = [*CHECK_NAMES, *([RANGE_CHECK] if contract.replace is Replace.RANGE else []), *extra_checks]
    arguments: dict[str, Any] = {
        "key": asset_key,
        "group_name": key[0],
        "kinds": {"iceberg", "duckdb"},
        "owners": ["team:data-platform"],
        "description": contract.description,
        "io_manager_key": "iceberg",
        "metadata": {"dagster/table_name": contract.name, "dagster/column_schema": column_schema(contract)},
        "check_specs": [
            dg.AssetCheckSpec(name, asset=asset_key, blocking=name not in NON_BLOCKING, description=CHECK_WORDS[name])
            for name in names
        ],
        **more,
    }
    with warnings.catch_warnings():
        # `backfill_policy` is marked beta; that a range is one run is held by a test.
        warnings.simplefilter("ignore", dg.BetaWarning)
        decorator: Decorator = dg.asset(**arguments)
    return decorator


def reference_asset(key: Sequence[str], **more: Any) -> Decorator:
    """`@dg.asset` for what has no table: a small reference to a run, a model version or a snapshot."""
    arguments: dict[str, Any] = {
        "key": list(key),
        "group_name": key[0],
        "owners": ["team:data-science"],
        "io_manager_key": "references",
        **more,
    }
    decorator: Decorator = dg.asset(**arguments)
    return decorator


def column_schema(contract: TableContract) -> dg.TableSchema:
    """Column docs of a contract, as dagster-pandera derives them from its Pandera schema."""
    from dagster_pandera import pandera_schema_to_dagster_type

    from mlops_platform.contracts.schemas import pandas_schema

    with warnings.catch_warnings():
        # The function is marked beta; what is used of it, the column docs, is held by a test.
        warnings.simplefilter("ignore", dg.BetaWarning)
        found: Any = pandera_schema_to_dagster_type(pandas_schema(contract)).metadata["schema"].value
    # Pandera on pandas knows dates and money as `object` only; the contract knows better.
    types = {column.name: column.type.value.lower() for column in contract.columns}
    columns = [
        dg.TableColumn(c.name, types[c.name], description=c.description, constraints=c.constraints)
        for c in found.columns
    ]
    return dg.TableSchema(columns=columns, constraints=found.constraints)


def propose(
    settings: Settings, draft: Draft, metadata: Mapping[str, Any] | None = None
) -> Iterator[dg.AssetCheckResult | dg.Output[Draft]]:
    """Audits a draft and hands it to the IO manager, which commits it.

    The check results come first: a failed blocking one ends the step, so that nothing is written.

    Args:
        settings: The home.
        draft: What the pipeline proposes.
        metadata: Shown with the materialization, beside the draft's figures.

    Raises:
        dagster.Failure: A blocking check failed.
    """
    try:
        outcomes = draft.audit()
        publish_quarantine(settings, draft)
    except BaseException:
        draft.discard()
        raise
    yield from (_result(outcome) for outcome in outcomes)
    try:
        require(draft.contract, outcomes)
    except ContractError as error:
        draft.discard()
        raise dg.Failure(description=str(error), allow_retries=False) from error
    figures = {key: value for key, value in draft.figures.items() if value != ""}
    yield dg.Output(draft, metadata={**figures, **(metadata or {})})


def _result(outcome: CheckOutcome) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=outcome.name,
        passed=outcome.passed,
        severity=dg.AssetCheckSeverity.ERROR if outcome.is_blocking else dg.AssetCheckSeverity.WARN,
        description=plain(outcome.message) or None,
        metadata=dict(outcome.figures),
    )
