"""Dagster's UI as `mlops up` starts it: the webserver's own application behind a check of Host and Origin.

`dagster-webserver` answers whatever Host a browser names, and anybody who reaches it may start runs. `python -m
mlops_platform.orchestration.webserver -w workspace.yaml` takes its place. Does not belong here: who is refused
(`web_guard.py`), which processes there are (`processes.py`).
"""

from __future__ import annotations

import argparse
import signal
from typing import TYPE_CHECKING

from mlops_platform.settings import load_settings
from mlops_platform.web_guard import guarded_asgi

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_platform.web_guard import AsgiApplication, Message, Receive, Send

# The defaults of the script `dagster-webserver`.
STATEMENT_TIMEOUT_MS, POOL_RECYCLE_SECONDS, POOL_MAX_OVERFLOW = 15_000, 3_600, 20


def serve(workspace: str, host: str, port: int, *, is_read_only: bool = False) -> None:
    """Serves Dagster's UI until it is stopped.

    Args:
        workspace: Path of a workspace.yaml.
        host: Address to listen on.
        port: Port to listen on.
        is_read_only: Whether nobody may start runs or turn schedules on or off.
    """
    import dagster as dg
    import uvicorn
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import WorkspaceFileTarget
    from dagster_webserver.app import create_app_from_workspace_process_context
    from dagster_webserver.version import __version__

    with dg.DagsterInstance.get() as instance:
        instance.optimize_for_webserver(STATEMENT_TIMEOUT_MS, POOL_RECYCLE_SECONDS, POOL_MAX_OVERFLOW)
        with WorkspaceProcessContext(
            instance,
            version=__version__,
            read_only=is_read_only,
            workspace_load_target=WorkspaceFileTarget(paths=[workspace]),
        ) as context:
            application = create_app_from_workspace_process_context(context)
            guarded = guarded_asgi(posted_only(application), load_settings().allowed_hosts)
            # A proxy's X-Forwarded-* headers change nothing that is decided here.
            uvicorn.run(guarded, host=host, port=port, log_level="warning", proxy_headers=False)


def posted_only(application: AsgiApplication) -> AsgiApplication:
    """Dagster's UI without GraphQL by GET: Dagster would carry out a mutation in a link, which carries no Origin."""

    async def guarded(scope: Message, receive: Receive, send: Send) -> None:
        is_link = scope["type"] == "http" and scope["method"] != "POST" and bool(scope["query_string"])
        if not (is_link and scope["path"].rstrip("/").endswith("/graphql")):
            await application(scope, receive, send)
            return
        head = [(b"content-type", b"text/plain; charset=utf-8"), (b"allow", b"POST")]
        await send({"type": "http.response.start", "status": 405, "headers": head})
        await send({"type": "http.response.body", "body": b"GraphQL is answered by POST only\n"})

    return guarded


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: the options of `dagster-webserver` that are used here, under its names."""
    parser = argparse.ArgumentParser(prog="python -m mlops_platform.orchestration.webserver", description=__doc__)
    parser.add_argument("-w", "--workspace", default="workspace.yaml", help="Path of a workspace.yaml.")
    parser.add_argument("--host", default="127.0.0.1", help="Address to listen on.")
    parser.add_argument("-p", "--port", default=3001, type=int, help="Port to listen on.")
    parser.add_argument("--read-only", action="store_true", help="Nobody starts runs or turns schedules on or off.")
    given = parser.parse_args(arguments)
    # As after Ctrl-C, SIGTERM ends the code server too.
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    serve(given.workspace, given.host, given.port, is_read_only=given.read_only)


if __name__ == "__main__":
    main()
