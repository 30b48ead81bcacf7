"""The keyed hash of a customer: one key a home, made once, never shown."""

from __future__ import annotations

import hashlib
import hmac
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from mlops_platform.errors import SettingsError, StorageError
from mlops_platform.settings import Settings, load_settings, setting_sources
from mlops_platform.storage.pseudonym import KEY_FILE, column_hmacs, customer_hmac, customer_hmacs

SECRET = "the key of this very test"  # noqa: S105 - of a test


def test_it_is_the_standard_hmac_under_the_setting(tmp_path: Path) -> None:
    home = load_settings(home=tmp_path, hmac_key=SECRET)
    expected = hmac.new(SECRET.encode(), b"C1", hashlib.sha256).hexdigest()
    assert customer_hmac(home, "C1") == customer_hmac(home, " C1\t") == expected
    assert customer_hmacs(home, ["C1", "C2"])[0] == expected
    assert not (tmp_path / KEY_FILE).exists()


def test_a_column_hashes_like_its_cells(home: Settings) -> None:
    ids = ["C1", None, "C2", "C1", ""]
    found = column_hmacs(home, pa.array(ids)).to_pylist()
    assert found == [None if name is None else customer_hmac(home, name) for name in ids]


def test_the_home_makes_a_key_that_only_its_user_reads(home: Settings) -> None:
    first = customer_hmac(home, "C1")
    key = home.home / KEY_FILE
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert customer_hmac(load_settings(home=home.home), "C1") == first
    assert list(home.home.iterdir()) == [key]
    key.unlink()
    assert customer_hmac(home, "C1") != first


def test_processes_at_once_agree_on_one_key(home: Settings) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: customer_hmac(home, "C1"), range(32)))) == 1


def test_a_key_is_never_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLOPS_HMAC_KEY", SECRET)
    home = load_settings(home=tmp_path)
    shown, source = setting_sources(home)["hmac_key"]
    assert source == "environment"
    assert SECRET not in f"{shown}{home!r}{home.model_dump()}"


def test_a_short_key_is_refused_unseen(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="MLOPS_HMAC_KEY has 6 bytes") as error:
        customer_hmac(load_settings(home=tmp_path, hmac_key="secret"), "C1")
    assert "'secret'" not in str(error.value)


def test_an_unreadable_key_is_a_storage_error(home: Settings) -> None:
    (home.home / KEY_FILE).mkdir(parents=True)
    with pytest.raises(StorageError, match=r"hmac\.key can't be read"):
        customer_hmac(home, "C1")
