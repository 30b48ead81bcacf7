"""The online store on Redis, for services on several machines: one hash, a field a customer, and one that describes it.

A new day's hash is written beside the old one and renamed over it in one transaction, so that a reader sees a whole
day. Does not belong here: the store of one machine, and which of both is used (`online_store.py`).
"""

from __future__ import annotations

import json
import secrets
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import StorageError
from mlops_platform.inference_pipeline.online_store import BATCH_ROWS, StoreState, day_rows
from mlops_platform.storage.pseudonym import BLANKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from redis import Redis

    from mlops_platform.storage.read import TableSnapshot

KEY = "mlops:online-store"
# No customer's id: ids come without blanks at their ends.
_STATE = " state"
_TIMEOUT_SECONDS = 0.5
# A draft whose writer died goes by itself.
_DRAFT_SECONDS = 3600


class RedisStore:
    """Reads and replaces the store. Threads may share it.

    Args:
        url: Such as `redis://:password@host:6379/0`; `rediss://` for TLS.

    Raises:
        StorageError: The address can't be used, or the package `redis` is not installed.
    """

    kind = "redis"

    def __init__(self, url: str) -> None:
        try:
            import redis
        except ImportError as error:
            raise StorageError(
                "MLOPS_REDIS_URL is set, but the package redis is not installed",
                hint='`pip install "mlops-platform[redis]"`.',
            ) from error
        try:
            self._redis: Redis = redis.Redis.from_url(
                url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS, decode_responses=True
            )
        except ValueError as error:
            # The address may hold a password: it is not repeated.
            raise StorageError(
                "MLOPS_REDIS_URL can't be read", expected="redis://host:6379/0, rediss:// or unix://"
            ) from error

    def rows(self, customer_ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """Each customer's features by name, in the ids' order; None for one the store does not know.

        Raises:
            StorageError: There is no store, or it can't be read.
        """
        with _answering():
            state, *found = self._redis.hmget(KEY, [_STATE, *(name.strip(BLANKS) for name in customer_ids)])
            if state is None:
                raise StorageError("there is no online store yet", hint="the job ingest_and_features makes it.")
            names = _state(state).features
            cells = [None if row is None else json.loads(row) for row in found]
            return [None if row is None else dict(zip(names, row, strict=True)) for row in cells]

    def state(self) -> StoreState | None:
        """What the store holds; None if there is none.

        Raises:
            StorageError: It can't be read.
        """
        with _answering():
            found = self._redis.hget(KEY, _STATE)
            return None if found is None else _state(found)

    def replace(self, snapshot: TableSnapshot, state: StoreState) -> StoreState:
        """Puts a day's rows in the place of the store.

        Raises:
            StorageError: Redis does not take them; the store is as it was.
        """
        draft, old = f"{KEY}:{secrets.token_hex(4)}", f"{KEY}:{secrets.token_hex(4)}"
        customers = 0
        with _answering():
            for batch in day_rows(snapshot, state.feature_date, ("customer_id", *state.features), BATCH_ROWS):
                self._redis.hset(draft, mapping={row[0]: json.dumps(row[1:]) for row in batch})
                self._redis.expire(draft, _DRAFT_SECONDS)
                customers += len(batch)
            made = StoreState(state.feature_date, customers, state.snapshot_id, state.features)
            self._redis.hset(draft, _STATE, json.dumps(asdict(made) | {"feature_date": made.feature_date.isoformat()}))
            with self._redis.pipeline(transaction=True) as change:
                change.persist(draft)
                if self._redis.exists(KEY):
                    change.rename(KEY, old)
                    # In the background: deleting a million fields takes Redis a second.
                    change.unlink(old)
                change.rename(draft, KEY)
                change.execute()
        return made

    def forget(self, customer_ids: Iterable[str]) -> int:
        """Takes customers out; returns how many it knew.

        Raises:
            StorageError: Redis does not answer.
        """
        ids = [name.strip(BLANKS) for name in customer_ids]
        with _answering():
            found = self._redis.hget(KEY, _STATE)
            forgotten = int(self._redis.hdel(KEY, *ids)) if ids and found is not None else 0
            if forgotten and found is not None:
                state = json.loads(found)
                state["customers"] -= forgotten
                self._redis.hset(KEY, _STATE, json.dumps(state))
        return forgotten

    def close(self) -> None:
        """Closes its connections; the next read opens one again."""
        self._redis.close()


def _state(found: str | bytes) -> StoreState:
    facts = json.loads(found)
    return StoreState(
        feature_date=date.fromisoformat(facts["feature_date"]),
        customers=facts["customers"],
        snapshot_id=facts["snapshot_id"],
        features=tuple(facts["features"]),
    )


@contextmanager
def _answering() -> Iterator[None]:
    from redis.exceptions import RedisError

    try:
        yield
    except (RedisError, OSError) as error:
        raise StorageError(
            f"the online store on Redis does not answer: {error}", hint="see that MLOPS_REDIS_URL can be reached."
        ) from error
    except (ValueError, LookupError, TypeError) as error:
        raise StorageError(
            f"the online store on Redis can't be read: {error}", hint=f"delete {KEY}, then make it again."
        ) from error
