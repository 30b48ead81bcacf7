"""Customers under another name: the keyed hash (HMAC-SHA256) of a customer_id, and the key of the home.

Customer ids can be guessed one after the other, so that a hash without a key would hide nothing. Blanks around an id do
not count: a CRM's cell may carry some. Does not belong here: what is done with the hash.
"""

from __future__ import annotations

import hmac
import os
import secrets
from typing import TYPE_CHECKING

from mlops_platform.contracts import ERASURES
from mlops_platform.errors import SettingsError, StorageError
from mlops_platform.storage.catalog import load_table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    import pyarrow as pa
    from pyiceberg.catalog import Catalog

    from mlops_platform.settings import Settings

KEY_FILE = "hmac.key"
SHORTEST_KEY = 16
BLANKS = " \t\n\v\f\r"


def customer_hmac(settings: Settings, customer_id: str) -> str:
    """HMAC-SHA256 of a customer_id under the home's key, as hex.

    Raises:
        SettingsError: MLOPS_HMAC_KEY is too short.
        StorageError: The key's file can't be read or made.
    """
    return customer_hmacs(settings, [customer_id])[0]


def customer_hmacs(settings: Settings, customer_ids: Iterable[str]) -> list[str]:
    """`customer_hmac` of each id, in their order; the key is read once."""
    key = _key(settings)
    return [hmac.digest(key, found.strip(BLANKS).encode(), "sha256").hex() for found in customer_ids]


def column_hmacs(settings: Settings, customer_ids: pa.Array) -> pa.Array:
    """`customer_hmac` of each value of an Arrow column, null for null; equal ids are hashed once."""
    import pyarrow as pa

    encoded = customer_ids.dictionary_encode()
    ids = encoded.dictionary.cast(pa.string()).to_pylist()
    return pa.array(customer_hmacs(settings, ids), pa.string()).take(encoded.indices)


def erased_customers(settings: Settings, catalog: Catalog) -> frozenset[str]:
    """`customer_hmac` of every customer erased so far; empty where nobody was."""
    table = load_table(catalog, ERASURES, settings.timezone)
    if table is None or table.current_snapshot() is None:
        return frozenset()
    found = table.scan(selected_fields=("customer_hmac",)).to_arrow()
    return frozenset(found["customer_hmac"].to_pylist())


def _key(settings: Settings) -> bytes:
    if settings.hmac_key is not None:
        key = settings.hmac_key.get_secret_value().encode()
        if len(key) < SHORTEST_KEY:
            raise SettingsError(
                f"MLOPS_HMAC_KEY has {len(key)} bytes",
                expected=f"a secret of {SHORTEST_KEY} bytes or more",
                hint="make one with `openssl rand -hex 32`, or unset it to use a file of the home.",
            )
        return key
    path = settings.home / KEY_FILE
    try:
        return _file_key(path)
    except OSError as error:
        raise StorageError(
            f"the key {path} can't be read or made: {error}",
            expected="a file this user alone can read, in a home this user can write",
            hint="mend its permissions, or restore it from a backup: without it nobody knows who was erased.",
        ) from error


def _file_key(path: Path) -> bytes:
    """The file's key; a new one where there is no file. Of two processes at once one key wins, whole."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(file, secrets.token_hex(32).encode() + b"\n")
            os.fsync(file)
        finally:
            os.close(file)
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            # Another process was first.
            pass
        finally:
            draft.unlink()
    key = path.read_bytes().strip()
    if len(key) < SHORTEST_KEY:
        raise OSError(f"it holds {len(key)} bytes")
    return key
