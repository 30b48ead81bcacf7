"""The online store: every customer's latest features in one SQLite file, for requests that name a customer only.

The file is never changed: `materialize` and `forget` write another one and rename it over, so that a reader holds a
whole state, needs no lock, and none of SQLite's companion files is left behind. With `MLOPS_REDIS_URL` the store is on
Redis (`online_redis.py`), for services on several machines. Does not belong here: HTTP, the clock.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.table import ColumnType
from mlops_platform.errors import NotEnoughDataError, StorageError
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import quoted
from mlops_platform.storage.locks import table_lock
from mlops_platform.storage.pseudonym import BLANKS
from mlops_platform.storage.read import scalar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from mlops_platform.contracts import TableContract
    from mlops_platform.inference_pipeline.online_redis import RedisStore
    from mlops_platform.settings import Settings
    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.read import TableSnapshot

REFRESH = "python -m mlops_platform.inference_pipeline.online_store"
BATCH_ROWS = 50_000
_LOCK = "online_store"
_TYPES = {ColumnType.INT: "INTEGER", ColumnType.LONG: "INTEGER", ColumnType.DOUBLE: "REAL", ColumnType.STRING: "TEXT"}


@dataclass(frozen=True, slots=True)
class StoreState:
    """What a store holds.

    Args:
        feature_date: Local day at whose end the features stood.
        customers: Their number.
        snapshot_id: Snapshot of feature_store.customer_features they come from.
        features: Their names.
    """

    feature_date: date
    customers: int
    snapshot_id: int
    features: tuple[str, ...]

    def age_days(self, today: date) -> int:
        """Days since the newest day a store can be of, which is the one before today; 0 for a fresh one."""
        return max((today - self.feature_date).days - 1, 0)


class OnlineStore:
    """Reads the home's store, and follows its replacement. Threads may share it.

    Args:
        path: The file; it may be missing.
    """

    kind = "sqlite"

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    def rows(self, customer_ids: Sequence[str]) -> list[dict[str, Any] | None]:
        """Each customer's features by name, in the ids' order; None for one the store does not know.

        Raises:
            StorageError: There is no store, or it can't be read.
        """
        with self._reading() as connection:
            return [connection.execute(_SELECT, (name.strip(BLANKS),)).fetchone() for name in customer_ids]

    def state(self) -> StoreState | None:
        """What the store holds; None if there is none.

        Raises:
            StorageError: It can't be read.
        """
        if not self.path.exists():
            return None
        with self._reading() as connection:
            return _state(connection)

    def replace(self, snapshot: TableSnapshot, state: StoreState) -> StoreState:
        """Puts a day's rows in the place of the store; the state's customers are counted.

        Raises:
            StorageError: It can't be written.
        """
        with _replacing(self.path) as draft, closing(sqlite3.connect(draft)) as connection:
            columns = _columns(snapshot.contract, state.features)
            made = replace(state, customers=_fill(connection, snapshot, state.feature_date, columns))
            _describe(connection, made)
        return made

    def forget(self, customer_ids: Iterable[str]) -> int:
        """Takes customers out, so that the file holds nothing of them; returns how many it knew.

        Raises:
            StorageError: It can't be written.
        """
        ids = [(name.strip(BLANKS),) for name in customer_ids]
        known = self.rows([name for (name,) in ids]) if self.path.exists() else []
        forgotten = sum(row is not None for row in known)
        if forgotten:
            with _replacing(self.path) as draft:
                shutil.copyfile(self.path, draft)
                with closing(sqlite3.connect(draft)) as connection:
                    connection.executemany("DELETE FROM customers WHERE customer_id = ?", ids)
                    connection.execute("UPDATE state SET customers = customers - ?", (forgotten,))
                    connection.commit()
                    # What was deleted stays in the file's free pages until it is written anew.
                    connection.execute("VACUUM")
        return forgotten

    def close(self) -> None:
        """Closes the file; the next read opens it again."""
        with self._lock:
            self._close()

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._current()
            except FileNotFoundError as error:
                raise StorageError("there is no online store yet", hint=f"`{REFRESH}` makes it.") from error
            except (sqlite3.Error, OSError, LookupError, ValueError) as error:
                self._close()
                problem = f"the online store {self.path} can't be read: {error}"
                raise StorageError(problem, hint=f"delete it, then `{REFRESH}`.") from error

    def _current(self) -> sqlite3.Connection:
        found = self.path.stat()
        identity = (found.st_dev, found.st_ino)
        if self._connection is None or identity != self._identity:
            self._close()
            self._connection, self._identity = _opened(self.path), identity
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def materialize(lake: Lake) -> StoreState:
    """Makes the home's store of the latest feature_date; one that holds that already stays.

    Raises:
        NotEnoughDataError: No feature_date has been computed yet.
        StorageError: The store can't be written, or another process has been writing it for ten minutes.
    """
    with table_lock(lake.settings, _LOCK), closing(open_store(lake.settings)) as store:
        snapshot = lake.snapshot(lake.features.customer_features)
        latest = _latest(snapshot)
        assert snapshot.snapshot_id is not None  # noqa: S101 - it has a feature_date
        wanted = StoreState(latest, 0, snapshot.snapshot_id, lake.features.names)
        before = store.state() if _is_sound(store) else None
        if before is not None and replace(before, customers=0) == wanted:
            return before
        return store.replace(snapshot, wanted)


def open_store(settings: Settings) -> OnlineStore | RedisStore:
    """The home's store: on Redis where the settings name one.

    Raises:
        StorageError: Redis's address or package can't be used.
    """
    if settings.redis_url is None:
        return OnlineStore(settings.online_store)
    from mlops_platform.inference_pipeline.online_redis import RedisStore

    return RedisStore(settings.redis_url.get_secret_value())


def forget(settings: Settings, customer_ids: Iterable[str]) -> int:
    """Takes customers out of the store, so that the file holds nothing of them; returns how many it knew.

    Raises:
        StorageError: The store can't be written.
    """
    with table_lock(settings, _LOCK), closing(open_store(settings)) as store:
        return store.forget(customer_ids)


_SELECT = "SELECT * FROM customers WHERE customer_id = ?"


def _opened(path: Path) -> sqlite3.Connection:
    # Immutable: nobody changes the file, so that SQLite need not look for locks and companions.
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
    connection.row_factory = lambda cursor, row: {
        column[0]: cell for column, cell in zip(cursor.description, row, strict=True)
    }
    return connection


def _state(connection: sqlite3.Connection) -> StoreState:
    found = connection.execute("SELECT * FROM state").fetchone()
    names = connection.execute("SELECT name FROM pragma_table_info('customers')").fetchall()
    return StoreState(
        feature_date=date.fromisoformat(found["feature_date"]),
        customers=found["customers"],
        snapshot_id=found["snapshot_id"],
        features=tuple(row["name"] for row in names[1:]),
    )


def _is_sound(store: OnlineStore | RedisStore) -> bool:
    """Whether there is a store that can be read; a damaged one is made anew."""
    try:
        return store.state() is not None
    except StorageError:
        return False


def _latest(snapshot: TableSnapshot) -> date:
    with snapshot.relation(["feature_date"]) as (connection, view):
        latest = scalar(connection, f"SELECT max(feature_date) FROM {view}")
    if latest is None:
        raise NotEnoughDataError(
            f"{snapshot.contract.name} holds no feature_date yet", hint="`mlops demo`, or the job ingest_and_features."
        )
    found: date = latest
    return found


def _columns(contract: TableContract, names: Sequence[str]) -> list[tuple[str, str]]:
    return [(name, _TYPES[contract.column(name).type]) for name in ("customer_id", *names)]


def _fill(connection: sqlite3.Connection, snapshot: TableSnapshot, latest: date, columns: list[tuple[str, str]]) -> int:
    """Writes the day's rows; returns their number."""
    declared = ", ".join(f"{quoted(name)} {kind}" for name, kind in columns)
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute(f"CREATE TABLE customers ({declared}, PRIMARY KEY (customer_id)) WITHOUT ROWID")
    marks = ", ".join("?" * len(columns))
    written = 0
    for rows in day_rows(snapshot, latest, [name for name, _ in columns], BATCH_ROWS):
        connection.executemany(f"INSERT INTO customers VALUES ({marks})", rows)
        written += len(rows)
    return written


def day_rows(
    snapshot: TableSnapshot, day: date, names: Sequence[str], batch_rows: int
) -> Iterator[list[tuple[Any, ...]]]:
    """A feature_date's rows in batches, ordered by customer_id, which comes first and without blanks at its ends."""
    with snapshot.relation(names, [Condition("feature_date", "=", day)]) as (duck, view):
        selected = ", ".join(["trim(customer_id, ?)", *map(quoted, names[1:])])
        cursor = duck.execute(f"SELECT {selected} FROM {view} ORDER BY customer_id", [BLANKS])
        while rows := cursor.fetchmany(batch_rows):
            yield rows


def _describe(connection: sqlite3.Connection, state: StoreState) -> None:
    connection.execute("CREATE TABLE state (feature_date TEXT, customers INTEGER, snapshot_id INTEGER)")
    values = (state.feature_date.isoformat(), state.customers, state.snapshot_id)
    connection.execute("INSERT INTO state VALUES (?, ?, ?)", values)
    connection.commit()


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A draft that takes the file's place when the block ends well; what a killed process left is removed.

    Raises:
        StorageError: It can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{path.name}.*"):
            left.unlink()
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            yield draft
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"the online store {path} can't be written: {error}") from error


def main() -> None:
    """Makes the home's online store anew: `python -m mlops_platform.inference_pipeline.online_store`."""
    import sys

    from mlops_platform.errors import PlatformError
    from mlops_platform.settings import load_settings
    from mlops_platform.storage.lake import Lake

    try:
        state = materialize(Lake(load_settings()))
    except PlatformError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    sys.stdout.write(f"{state.customers:,} customers of {state.feature_date}\n")


if __name__ == "__main__":
    main()
