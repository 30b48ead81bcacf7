"""Callers of the composition's proxy, and the pages they ask for.

Does not belong here: tests.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import Any

import httpx

from mlops_platform_tests.server.composed import Composition

# A page of each service that changes nothing.
PAGES = {
    3001: "/server_info",
    5000: "/health",
    8000: "/livez",
    9101: "/metrics",
    9090: "/-/healthy",
    9093: "/-/healthy",
    3000: "/api/health",
    8080: "/api/v2/monitor/health",
}
TEAM = {
    "dagster": 3001,
    "mlflow": 5000,
    "churn": 8000,
    "metrics": 9101,
    "prometheus": 9090,
    "alertmanager": 9093,
    "grafana": 3000,
    "airflow": 8080,
}


class Team:
    """A caller of the team's port, who knows the certificate."""

    def __init__(self, running: Composition) -> None:
        self._running = running
        context = ssl.create_default_context(cafile=str(running.made / "proxy_certificate"))
        self.client = httpx.Client(verify=context, timeout=30, trust_env=False)
        self.password = running.password

    def get(self, ui: str, path: str, *, host: str | None = None, **options: Any) -> httpx.Response:
        """A page under its name, or under another one for the same connection."""
        name = f"{ui}.localhost"
        headers = {"Host": host or f"{name}:{self._running.fronts[8443]}", **options.pop("headers", {})}
        # The names need not resolve here.
        url = f"https://127.0.0.1:{self._running.fronts[8443]}{path}"
        return self.client.get(url, headers=headers, extensions={"sni_hostname": name}, **options)


def eventually(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def graphql(running: Composition, client: httpx.Client, query: str) -> dict[str, Any]:
    answer = client.post(running.url(3001) + "/graphql", json={"query": query}).raise_for_status()
    found: dict[str, Any] = answer.json()["data"]
    return found
