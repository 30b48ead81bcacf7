"""Requests made up from a seed: valid ones, ones with a few things wrong, and bytes changed at random.

They name the customers C1 and C2, which are to be in the online store. Does not belong here: sending them, judging the
answers (`conformance.py`).
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlops_platform_tests.integration.servers import features_table

HOSTILE: list[Any] = [
    None, True, False, 0, -1, -0.0, 1.5, 2**31, 2**63, -(2**63), 10**400, 1e308, -1e308, 5e-324, 3.5e38, 0.1, "", " ",
    "NaN", "unknown", "premium", "\ud800", "\x00", "é", "x" * 5000, "'; DROP TABLE customers; --", "${jndi:ldap://x}",
    [], {}, [[]], [{}], [None], {"a": {}}, [1, 2, 3], {"$ref": "#"}, float("nan"), float("inf"), float("-inf"),
]  # fmt: skip
KEYS = ["features", "customer_id", "tenure_days", "__proto__", "", "\x00", "é", "a" * 300, "churn_score"]
# Costly ones are drawn rarely: a megabyte to make, send and refuse takes longer than a hundred small ones.
HUGE = [b"[" * 100_000, b'{"a":' * 50_000, b"9" * 10_000, b" " * 1_000_001, b"\xef\xbb\xbf{}"]
METHODS = ["POST"] * 12 + ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"]
PATHS = ["/predict"] * 8 + ["/explain"] * 4 + ["/model", "/", "/docs.json", "/elsewhere"]
KINDS = [b"application/json"] * 15 + [
    b"application/json; charset=utf-8",
    b"application/json;charset=utf-16",
    b"",
    b"a/b",
]
Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Drawn:
    """A request."""

    method: str
    path: str
    headers: Headers
    body: bytes


def requests(seed: int) -> Iterator[Drawn]:
    """Requests without end, the same ones for the same seed."""
    chance = random.Random(seed)
    rows = features_table(50, seed=seed).to_pylist()
    while True:
        path, method = chance.choice(PATHS), chance.choice(METHODS)
        body = _spoilt_bytes(chance, _document(chance, rows))
        headers = [(b"content-type", chance.choice(KINDS))]
        if chance.random() < 0.2:
            headers.append((b"authorization", f"Bearer {chance.getrandbits(64):x}".encode()))
        yield Drawn(method, path, headers, body)


def _hostile(chance: random.Random) -> Any:
    """One of them, to be spoilt further without changing the others."""
    return copy.deepcopy(chance.choice(HOSTILE))


def _document(chance: random.Random, rows: list[dict[str, Any]]) -> Any:
    """A body as a client would send it, and then more or less of it spoilt."""
    kind = chance.random()
    if kind < 0.25:
        named: Any = chance.choice(["C1", "C2", "C9", ["C1", "C2"], ["C1"] * 1001, _hostile(chance), _hostile(chance)])
        found: Any = {"customer_id": named}
    elif kind < 0.3:
        return _hostile(chance)
    else:
        picked = [dict(chance.choice(rows)) for _ in range(chance.randint(1, 4))]
        found = {"features": picked if chance.random() < 0.4 else picked[0]}
    for _ in range(chance.choice([0, 0, 0, 0, 1, 1, 2, 3])):
        _spoil(chance, found)
    return found


def _spoil(chance: random.Random, found: dict[str, Any]) -> None:
    """Changes, adds or takes away one member somewhere."""
    within: Any = found
    if chance.random() < 0.9:
        inner = found.get("features")
        within = (
            inner if isinstance(inner, dict) else chance.choice(inner) if isinstance(inner, list) and inner else found
        )
    if not isinstance(within, dict):
        return
    how = chance.random()
    if how < 0.6 and within:
        within[chance.choice(list(within))] = _hostile(chance)
    elif how < 0.8 and within:
        within.pop(chance.choice(list(within)))
    else:
        within[chance.choice(KEYS)] = _hostile(chance)


def _spoilt_bytes(chance: random.Random, found: Any) -> bytes:
    body = bytearray(json.dumps(found, ensure_ascii=chance.random() < 0.8).encode("utf-8", "surrogatepass"))
    how = chance.random()
    if how < 0.1:
        for _ in range(chance.randint(1, 5)):
            body[chance.randrange(len(body))] = chance.randrange(256)
    elif how < 0.15:
        del body[chance.randrange(len(body)) :]
    elif how < 0.18:
        body = body * 2
    elif how < 0.185:
        body = bytearray(chance.choice(HUGE))
    return bytes(body)
