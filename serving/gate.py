"""Who is let in, and how many at once: the bearer token, the rate, the number of requests being scored.

Belongs here: the decisions, as refusals. Does not belong here: reading headers and bodies (`endpoint.py`).
"""

from __future__ import annotations

import hmac
import ipaddress
import math
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlops_platform.errors import SettingsError
from mlops_platform.web_guard import refusal
from serving.requests import RefusedRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from mlops_platform.settings import Settings

# A probe asks under whatever address it has, and is told yes or no.
PROBES = frozenset({"/livez", "/healthz", "/readyz"})
# Prometheus comes without a token.
METRICS = "/metrics"
SHORTEST_TOKEN = 16


class Gate:
    """What a worker lets in.

    Args:
        token: The bearer token every caller must show; None: nobody needs one.
        concurrency: Requests scored at once.
        rate: Requests scored a second, on average, with bursts of one second's worth; None: as many as come.
        allowed_hosts: Names the service may be asked under, besides loopback's.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        *,
        token: str | None,
        concurrency: int,
        rate: float | None,
        allowed_hosts: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._expected = None if token is None else f"bearer {token}".encode()
        self._free = concurrency
        self._rate, self._clock = rate, clock
        self._allowed_hosts = allowed_hosts
        self._burst = self._tokens = max(rate or 0.0, 1.0)
        self._filled_at = clock()

    @classmethod
    def of(cls, settings: Settings) -> Gate:
        """The gate that the settings describe.

        Raises:
            SettingsError: The token is not usable.
        """
        return cls(
            token=_token(settings),
            concurrency=settings.serving_concurrency,
            rate=settings.serving_rate,
            allowed_hosts=settings.allowed_hosts,
        )

    def require_same_site(self, host: bytes, origin: bytes) -> None:
        """Refuses what a page of another site makes a browser send.

        Args:
            host: The header of that name; empty if there is none.
            origin: The header of that name; empty if there is none.

        Raises:
            RefusedRequestError: 403.
        """
        if problem := refusal(host.decode("latin-1"), origin.decode("latin-1"), self._allowed_hosts):
            raise RefusedRequestError(403, problem)

    def require_token(self, authorization: bytes) -> None:
        """Refuses a request without the token.

        Args:
            authorization: The header of that name; empty if there is none.

        Raises:
            RefusedRequestError: 401.
        """
        if self._expected is None:
            return
        scheme, _, shown = authorization.partition(b" ")
        # Compared in a time that does not tell how much of it was right.
        if not hmac.compare_digest(scheme.lower() + b" " + shown.strip(), self._expected):
            challenge = ((b"www-authenticate", b'Bearer realm="churn predictions"'),)
            raise RefusedRequestError(401, "expected the header Authorization: Bearer, and the token", None, challenge)

    def require_rate(self) -> None:
        """Refuses a request that comes too soon after the others.

        Raises:
            RefusedRequestError: 429.
        """
        if self._rate is None:
            return
        now = self._clock()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._tokens < 1.0:
            wait = _retry_after((1.0 - self._tokens) / self._rate)
            raise RefusedRequestError(429, f"more than {self._rate:g} requests a second", None, wait)
        self._tokens -= 1.0

    @contextmanager
    def scoring(self) -> Iterator[None]:
        """Holds one of the places for requests that are being scored.

        A request takes its place when its body is whole: a slow sender holds none.

        Raises:
            RefusedRequestError: 503, all places are taken.
        """
        if self._free <= 0:
            raise RefusedRequestError(503, "too many requests are being scored", None, _retry_after(1.0))
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


def require_guarded(settings: Settings, host: str) -> None:
    """Refuses to listen where other machines reach the service while it asks for no token.

    Raises:
        SettingsError: The host is not loopback and there is no token, or one that is not usable.
    """
    if _token(settings) is None and not _is_loopback(host):
        raise SettingsError(
            f"the service would listen on {host} and answer everybody who reaches it",
            expected="MLOPS_API_TOKEN, which callers then send as a bearer token",
            hint='`export MLOPS_API_TOKEN="$(openssl rand -hex 32)"`, or serve on 127.0.0.1.',
        )


def _token(settings: Settings) -> str | None:
    if settings.api_token is None:
        return None
    token = settings.api_token.get_secret_value()
    if len(token) < SHORTEST_TOKEN or not all("!" <= sign <= "~" for sign in token):
        raise SettingsError(
            f"MLOPS_API_TOKEN has {len(token)} characters, or some that a header can't carry",
            expected=f"{SHORTEST_TOKEN} characters or more, ASCII and no blanks",
            hint="make one with `openssl rand -hex 32`.",
        )
    return token


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _retry_after(seconds: float) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"retry-after", str(max(1, math.ceil(seconds))).encode()),)
