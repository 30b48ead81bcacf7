"""Trino's address and the ways of not reaching it; what a real Trino answers is tested in `engines/test_trino.py`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mlops_platform.errors import InputError, SettingsError, StorageError
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.trino import _arguments, trino_rows


def at(url: str | None) -> Settings:
    """Settings with this MLOPS_TRINO_URL."""
    return load_settings(trino_url=url, timezone="America/Sao_Paulo")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("trino://ana@host/iceberg", ("host", 8080, "http", "ana", "iceberg")),
        ("trino+http://ana@host:81/lake", ("host", 81, "http", "ana", "lake")),
        ("trino+https://a%40b@host/iceberg/", ("host", 443, "https", "a@b", "iceberg")),
        ("trino+https://ana:p%40ss@[::1]:8443/iceberg", ("::1", 8443, "https", "ana", "iceberg")),
    ],
)
def test_an_address_is_what_the_client_is_called_with(url: str, expected: tuple[object, ...]) -> None:
    found = _arguments(at(url))
    assert tuple(found[name] for name in ("host", "port", "http_scheme", "user", "catalog")) == expected
    assert found["timezone"] == "America/Sao_Paulo"
    assert (found["auth"] is None) == ("p%40ss" not in url)
    if found["auth"] is not None:
        assert (found["auth"]._username, found["auth"]._password) == ("ana", "p@ss")


@pytest.mark.parametrize(
    "url",
    [
        "host:8080",
        "http://ana@host:8080/iceberg",
        "trino://host:8080/iceberg",
        "trino://ana@host:8080",
        "trino://ana@host:8080/iceberg/silver",
        "trino://ana@host:8080/iceberg?verify=false",
        "trino://ana@host:port/iceberg",
        "trino+https://ana:hidden@host:99999/iceberg",
    ],
)
def test_a_malformed_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match=r"MLOPS_TRINO_URL is .*Expected: trino://user@host:8080/catalog") as caught:
        trino_rows(at(url), "SELECT 1")
    assert "hidden" not in str(caught.value)


def test_no_address_is_said() -> None:
    with pytest.raises(SettingsError, match="MLOPS_TRINO_URL is not set"):
        trino_rows(at(None), "SELECT 1")


def test_a_password_goes_over_tls_only() -> None:
    with pytest.raises(SettingsError, match=r"trino://ana:\*\*\*@host.*without TLS") as caught:
        trino_rows(at("trino://ana:hidden@host/iceberg"), "SELECT 1")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("url", ["trino://ana@host/iceberg", "trino+https://ana:hidden@host/iceberg"])
def test_without_the_client_it_says_what_to_install(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("trino", "trino.auth"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r"client is not installed\. Next: pip install 'mlops-platform\[trino\]'"):
        trino_rows(at(url), "SELECT 1")


def test_nobody_at_the_address_is_one_message() -> None:
    # Port 9 is discard's, which no machine of today has.
    with pytest.raises(StorageError, match=r"Trino at 127\.0\.0\.1:9 does not answer: .*Next: check MLOPS_TRINO_URL"):
        trino_rows(at("trino://ana@127.0.0.1:9/iceberg"), "SELECT 1")


class _Refusing(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture
def refusing() -> Iterator[int]:
    """The port of a server that lets nobody in."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_a_server_that_lets_nobody_in_is_one_message(refusing: int) -> None:
    with pytest.raises(StorageError, match=r"does not answer: error 401.*Expected: a running Trino that lets this us"):
        trino_rows(at(f"trino://ana@127.0.0.1:{refusing}/iceberg"), "SELECT 1")
