"""Writes docs/features.md and docs/tables.md from the contracts, and the features' SQL for Athena that the tests hold.

`--check` fails when one is stale. Belongs here: the pages' layout. Does not belong here: any fact, they come from the
contracts.
"""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path

from mlops_platform.contracts import STANDARD, all_contracts
from mlops_platform.contracts.table import Column

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
GOLDEN = ROOT / "mlops_platform_tests" / "engines" / "golden"
# A leap day, and the last day of a year.
GOLDEN_DAYS = (date(2024, 2, 29), date(2024, 12, 31))
MADE = "<!-- Made by `make docs` from mlops_platform/contracts; edit those. -->\n"

FEATURES_HEAD = """# Features

`feature_date` D is the state at the end of local day D: only transactions with a local date on or before D count, and a
window of N days is D−N+1 … D. A purchase is a silver transaction with an amount above zero. A customer has a row at D
when it has a purchase on or before D. No feature is null. Money is summed exactly, in cents.

Churn at D: no purchase in local days D+1 … D+90 (`MLOPS_HORIZON_DAYS`). The population that is trained on and scored
has a purchase in the last 365 days (`MLOPS_POPULATION_DAYS`).

- `churn_score` = exp(−90 · λ · a) with λ = n ÷ (tenure_days + 90), a = g ÷ (g + d), n the distinct purchase dates so
  far, g = mean_gap_days, d = days_since_last_transaction.
- `mean_gap_days` = (last − first purchase date + 90) ÷ n.
- `monthly_seasonality` = 12 × purchases of the last 365 days in D's calendar month ÷ purchases of the last 365 days.
- `recency_score`, `frequency_score`, `monetary_score` = 1 + floor(5 × customers strictly worse ÷ customers at D).
- `engagement_score` = 0.5·(frequency_score−1)/4 + 0.3·(recency_score−1)/4 + 0.2·(distinct purchase dates in 90 d ÷ 90).
"""


def main() -> int:
    """Writes or checks the pages; returns the exit code."""
    pages = {DOCS / "features.md": _features(), DOCS / "tables.md": _tables(), **golden_files()}
    stale = [path for path, text in pages.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is stale: run `make docs`\n")
        return 1 if stale else 0
    for path in stale:
        path.write_text(pages[path], encoding="utf-8")
    return 0


def golden_files() -> dict[Path, str]:
    """The features of some days in Athena's SQL: a change of it is seen, and read, before it is committed."""
    import ibis

    from mlops_platform.feature_pipeline.transform import SOURCE_TYPES, feature_expression

    silver = ibis.table(SOURCE_TYPES, name="transactions", database="silver")
    head = "-- Made by `make docs` from mlops_platform/contracts and feature_pipeline/transform.py; edit those.\n"
    return {
        GOLDEN
        / f"customer_features_{day}.sql": f"{head}{ibis.to_sql(feature_expression(silver, day), dialect='athena')}\n"
        for day in GOLDEN_DAYS
    }


def _features() -> str:
    rows = "".join(_row(feature.column) for feature in STANDARD.features)
    return f"{MADE}{FEATURES_HEAD}\nVersion {STANDARD.version}, {len(STANDARD.features)} features.\n\n{_HEAD}{rows}"


def _tables() -> str:
    parts = [f"{MADE}# Tables\n"]
    for contract in all_contracts().values():
        key = ", ".join(contract.key) or "none"
        partitions = ", ".join(f"{p.transform}({p.column})" for p in contract.partitions) or "none"
        replace = contract.replace.value + (f" of {contract.range_column}" if contract.range_column else "")
        parts.append(f"\n## {contract.name}\n\n{contract.description}\n")
        parts.append(f"\nKey: {key}. Partitions: {partitions}. A publish replaces: {replace}.\n\n")
        if contract is STANDARD.customer_features:
            parts.append("Columns: customer_id, feature_date, the [features](features.md), and\n\n")
        own = [
            c
            for c in contract.columns
            if contract.name.startswith(("bronze", "silver", "monitoring")) or not _is_feature(c)
        ]
        parts.append(_HEAD + "".join(map(_row, own)))
    return "".join(parts)


_HEAD = "| column | type | meaning |\n|---|---|---|\n"


def _is_feature(column: Column) -> bool:
    return any(feature.column is column for feature in STANDARD.features)


def _row(column: Column) -> str:
    kind = column.type.value.lower() + (", nullable" if column.nullable else "")
    return f"| {column.name} | {kind} | {column.description.replace('|', ' or ')} |\n"


if __name__ == "__main__":
    sys.exit(main())
