"""Who is let in: tokens, rates, places, and where the service may listen."""

from __future__ import annotations

import pytest

from mlops_platform.errors import SettingsError
from mlops_platform.settings import Settings, load_settings, setting_sources
from serving.gate import Gate, require_guarded
from serving.requests import RefusedRequestError

TOKEN = "0123456789abcdef"  # noqa: S105 - made up


def gate(
    token: str | None = None, concurrency: int = 2, rate: float | None = None, clock: list[float] | None = None
) -> Gate:
    times = clock or [0.0]
    return Gate(token=token, concurrency=concurrency, rate=rate, clock=lambda: times[0])


def with_token(token: str) -> Settings:
    return load_settings(api_token=token)


@pytest.mark.parametrize("shown", [f"Bearer {TOKEN}", f"bearer {TOKEN}", f"Bearer  {TOKEN} "])
def test_the_token_opens(shown: str) -> None:
    gate(TOKEN).require_token(shown.encode())


@pytest.mark.parametrize(
    "shown",
    [b"", TOKEN.encode(), f"Basic {TOKEN}".encode(), f"Bearer {TOKEN}x".encode(), b"Bearer", b"Bearer \xff", b"\xff"],
)
def test_anything_else_does_not(shown: bytes) -> None:
    with pytest.raises(RefusedRequestError) as caught:
        gate(TOKEN).require_token(shown)
    assert caught.value.status == 401
    assert caught.value.headers[0][0] == b"www-authenticate"
    assert TOKEN not in str(caught.value.body())


def test_without_a_token_nobody_needs_one() -> None:
    gate().require_token(b"")


def test_a_burst_of_one_seconds_worth_then_the_rate() -> None:
    clock = [0.0]
    limited = gate(rate=4.0, clock=clock)
    for _ in range(4):
        limited.require_rate()
    with pytest.raises(RefusedRequestError) as caught:
        limited.require_rate()
    assert (caught.value.status, caught.value.headers) == (429, ((b"retry-after", b"1"),))
    clock[0] = 0.25
    limited.require_rate()
    with pytest.raises(RefusedRequestError):
        limited.require_rate()
    clock[0] = 1000.0
    for _ in range(4):
        limited.require_rate()
    with pytest.raises(RefusedRequestError):
        limited.require_rate()


def test_a_slow_rate_says_how_long_to_wait() -> None:
    limited = gate(rate=0.1)
    limited.require_rate()
    with pytest.raises(RefusedRequestError) as caught:
        limited.require_rate()
    assert caught.value.headers == ((b"retry-after", b"10"),)


def test_places_are_taken_and_given_back() -> None:
    places = gate(concurrency=2)
    with places.scoring():
        with pytest.raises(ZeroDivisionError), places.scoring():
            raise ZeroDivisionError
        with places.scoring(), pytest.raises(RefusedRequestError) as caught, places.scoring():
            pass
        assert (caught.value.status, caught.value.headers) == (503, ((b"retry-after", b"1"),))
        with places.scoring():
            pass


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_no_token(host: str) -> None:
    require_guarded(load_settings(), host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "service.example"])  # noqa: S104 - refused
def test_more_than_loopback_needs_one(host: str) -> None:
    with pytest.raises(SettingsError, match="MLOPS_API_TOKEN"):
        require_guarded(load_settings(), host)
    require_guarded(with_token(TOKEN), host)


@pytest.mark.parametrize("token", ["short", "a token with blanks in", "a-token-with-é-in-it-so"])
def test_a_token_that_is_not_usable_is_refused_without_being_shown(token: str) -> None:
    for use in (Gate.of, lambda settings: require_guarded(settings, "127.0.0.1")):
        with pytest.raises(SettingsError) as caught:
            use(with_token(token))
        assert token not in str(caught.value)


def test_settings_show_no_token() -> None:
    settings = with_token(TOKEN)
    assert TOKEN not in repr(settings)
    assert TOKEN not in str(setting_sources(settings, api_token=TOKEN))
