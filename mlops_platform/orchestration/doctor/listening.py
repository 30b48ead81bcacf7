"""Who listens on a port of this machine: the process where it can be seen, and what it answers.

Does not belong here: which ports are ours (`processes.py`).
"""

from __future__ import annotations

import re
import socket
from contextlib import suppress
from dataclasses import dataclass

# What each service of `mlops up` answers, and nobody else does.
_SIGNS = {
    "Dagster": ("/server_info", r"dagster_webserver_version"),
    "MLflow": ("/version", r"\d+\.\d+\.\d+\S*"),
    "service": ("/metrics", r"mlops_serving_"),
    "metrics": ("/metrics", r"mlops_exporter_"),
}
_ANSWER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Listener:
    """What holds a port.

    Args:
        port: The port.
        pid: Its process; None if it is another user's.
        who: What a person calls it.
        is_ours: Whether it answers as the platform does.
        is_wide: Whether other machines reach it.
    """

    port: int
    pid: int | None
    who: str
    is_ours: bool
    is_wide: bool


def listener_on(service: str, port: int) -> Listener | None:
    """Who listens on the port of one of our services; None if nobody does."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        if probe.connect_ex(("127.0.0.1", port)) != 0:
            return None
    pid, addresses = _process(port)
    is_wide = any(address in {"0.0.0.0", "::"} for address in addresses)  # noqa: S104 - looked for, not listened on
    return Listener(port, pid, _name(pid), _answers_as(service, port), is_wide)


def _process(port: int) -> tuple[int | None, list[str]]:
    """The process that listens, and its addresses, as far as this user may see."""
    import psutil

    found: list[tuple[int | None, str]] = []
    with suppress(psutil.AccessDenied):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.laddr[1] == port:
                found.append((connection.pid, connection.laddr[0]))
    return next((pid for pid, _ in found if pid), None), [address for _, address in found]


def _name(pid: int | None) -> str:
    import psutil

    if pid is not None:
        with suppress(psutil.Error):
            return f"{psutil.Process(pid).name()}, pid {pid}"
    return "a process of another user"


def _answers_as(service: str, port: int) -> bool:
    import httpx

    path, sign = _SIGNS[service]
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}{path}", timeout=_ANSWER_SECONDS, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200 and re.search(sign, answer.text[:100_000]) is not None
