"""Writes docs/features.md and docs/tables.md from the contracts, and the features' SQL for Athena that the tests hold.

`--check` fails when one is stale, or a declaration not recorded. Belongs here: the pages' layout. Does not belong here:
any fact, they come from the contracts.
"""

from __future__ import annotations

import sys
import textwrap
from datetime import date
from pathlib import Path
from typing import get_args, get_type_hints

from mlops_platform.contracts import STANDARD, all_contracts
from mlops_platform.contracts.features import FLAGS, LABELS, MEASURES, Aggregate
from mlops_platform.contracts.table import Column
from mlops_platform.feature_pipeline.record import compare

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


OWN_FEATURE = """
## Add your own feature

One declaration, in a module of your own beside your work, such as `my_features.py`:

```python
from mlops_platform.feature_pipeline import Aggregate, Column, ColumnType, Derived, Feature

FEATURES = [
    Feature(
        Column("total_transactions_14d", ColumnType.INT, "Purchases in 14 days", unit="purchases", ge=0),
        Aggregate("count", window_days=14),
    ),
    Feature(
        Column("recent_share", ColumnType.DOUBLE, "Share of the 90-day purchases in 14 days", ge=0, le=1),
        Derived(
            lambda t: (t.total_transactions_14d.cast("float64") / t.total_transactions_90d.nullif(0)).fill_null(0.0)
        ),
    ),
]
```

```sh
export MLOPS_FEATURES_MODULE=my_features            # or features_module = "my_features" in the home's mlops.toml
mlops features record                               # gives the declarations a version; keep the file it writes
mlops features backfill --from 2024-01-01 --to 2024-12-31
mlops features list
```

The module is looked for in the working directory and on PYTHONPATH. The table's column, its checks, the asset's column
docs, the training set and the model's input follow; a model trained before goes on with the features it knows. A
feature is one of

{kinds}

When a declaration changes its meaning, `mlops features record` raises the version that `_feature_version` holds, and
the state before keeps a tag: `mlops query --at features-v1.0 "SELECT …"` reads it. A feature's type stays what it is;
another one needs another name.
"""


def main() -> int:
    """Writes or checks the pages; returns the exit code."""
    pages = {DOCS / "features.md": _features(), DOCS / "tables.md": _tables(), **golden_files()}
    stale = [path for path, text in pages.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        unrecorded = [found.words() for found in compare(STANDARD) if found.is_changed]
        for words in unrecorded:
            sys.stderr.write(f"features are not recorded ({words}): run `mlops features record`\n")
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is stale: run `make docs`\n")
        return 1 if stale or unrecorded else 0
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
    own = OWN_FEATURE.replace("{kinds}", "\n".join(map(_item, _kinds())))
    head = f"Version {STANDARD.version}, {len(STANDARD.features)} features."
    return f"{MADE}{FEATURES_HEAD}\n{head}\n\n{_HEAD}{rows}{own}"


def _kinds() -> tuple[str, ...]:
    """What a declaration can be, with the names it can be of."""
    functions, flags, labels, measures = (
        ", ".join(f"`{name}`" for name in names)
        for names in (get_args(get_type_hints(Aggregate)["function"]), FLAGS, LABELS, MEASURES)
    )
    return (
        f"`Aggregate(function, window_days, source)`: {functions}; `window_days` None: all history. `source`: "
        f"`amount`, for a sum also `cents`, for a count or share a flag: {flags}.",
        f"`MostFrequent(source, window_days, default)` of {labels}.",
        "`Score(of, is_larger_better)`: the fifth of the customers that a whole number puts a customer into.",
        f"`Derived(expression)`: an [Ibis](https://ibis-project.org) expression over the features before it and "
        f"{measures}.",
    )


def _item(text: str) -> str:
    return textwrap.fill(text, 120, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)


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
