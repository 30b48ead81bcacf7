"""`python -m mlops_platform.feature_pipeline`: computes and publishes feature_dates.

Belongs here: the call from a shell, which knows the time. Does not belong here: what is computed (`pipeline.py`).
"""

from __future__ import annotations

import argparse
import sys

from mlops_platform import clock
from mlops_platform.errors import PlatformError
from mlops_platform.feature_pipeline.load import days_between
from mlops_platform.feature_pipeline.pipeline import as_day, last_day, publish_features
from mlops_platform.settings import apply_exports, load_settings
from mlops_platform.storage.lake import Lake


def main(arguments: list[str] | None = None) -> int:
    """Runs the call; returns the exit code, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(
        "python -m mlops_platform.feature_pipeline", description="Compute and publish features.", allow_abbrev=False
    )
    parser.add_argument("--feature-date", metavar="DAY", help="a local day that is over; default: the last one")
    parser.add_argument("--from", dest="first", metavar="DAY", help="first feature_date of a range")
    parser.add_argument("--to", dest="last", metavar="DAY", help="last feature_date; default: the last over")
    given = parser.parse_args(arguments)
    if given.feature_date is not None and (given.first is not None or given.last is not None):
        parser.error("--feature-date is one day, --from and --to are a range: give one or the other")
    if given.last is not None and given.first is None:
        parser.error("--to needs --from")
    try:
        settings = load_settings()
        apply_exports(settings)
        last = last_day(settings)
        if given.first is not None:
            days = days_between(as_day(given.first), last if given.last is None else as_day(given.last))
        else:
            days = [last if given.feature_date is None else as_day(given.feature_date)]
        done = publish_features(Lake(settings), days, now=clock.now(settings))
    except PlatformError as error:
        sys.stderr.write(f"feature_pipeline: {error}\n")
        return 2
    what = f"{days[0]}" if len(days) == 1 else f"{days[0]} to {days[-1]}"
    change = f"new snapshot {done.snapshot_id}" if done.is_new else f"unchanged, snapshot {done.snapshot_id}"
    sys.stdout.write(f"{done.table}: feature_date {what}, {done.rows:,} rows ({change})\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
