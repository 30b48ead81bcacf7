"""Servers that don't answer: for how long the object store is asked again, and which errors say that one is gone.

Belongs here: telling an outage, after which the same again will do, from a fault. Does not belong here: doing it again
(`commit.py` for one commit, `orchestration/executor.py` for a run).
"""

from __future__ import annotations

import re

from pyarrow.fs import AwsDefaultS3RetryStrategy

_OUTAGE = re.compile(
    # PostgreSQL can't be connected to, or has closed the connection: the driver's class for what has no code.
    r"psycopg2\.(OperationalError|InterfaceError|errors\.(AdminShutdown|CrashShutdown|CannotConnectNow))"
    r"|DagsterPostgresException"
    # PyArrow tells errors of S3 apart by their text only, which DuckDB, reading through it, hands on. A store that was
    # restarted may have forgotten the upload it was in.
    r"|AWS Error (NETWORK_CONNECTION|REQUEST_TIMEOUT|SERVICE_UNAVAILABLE|SLOW_DOWN|INTERNAL_FAILURE|NO_SUCH_UPLOAD)"
    r"|AWS Error \w+ \(HTTP status 5\d\d\)"
    r"|Connection(Refused|Reset)Error"
)


class S3Retries(AwsDefaultS3RetryStrategy):  # type: ignore[misc]
    """PyArrow's retries of one S3 request: ten attempts whose waits double from 50 ms, 25.6 s in all.

    A restart lasts less; where the store does not come back the request fails then, instead of hanging for ever.
    """

    def __init__(self) -> None:
        super().__init__(max_attempts=10)


def tells_of_outage(text: str) -> bool:
    """Whether the text of an error and its causes says that a database or the object store did not answer."""
    return _OUTAGE.search(text) is not None
