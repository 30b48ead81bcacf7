"""A real mail server and a real webhook on free ports of this machine, that keep what they get.

Does not belong here: tests.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, Session

RECEIVER = "team@example.com"


@dataclass
class Mailbox:
    """What a mail server got, and what it answers: its next answers, then 250."""

    port: int = 0
    answers: list[str] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)
    attempts: int = 0
    logins: list[bytes] = field(default_factory=list)

    async def handle_DATA(self, _server: Any, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        self.attempts += 1
        answer = self.answers.pop(0) if self.answers else "250 taken"
        if answer.startswith("250"):
            self.envelopes.append(envelope)
        return answer

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        """Takes every login, and keeps the password."""
        self.logins.append(data.password)
        return AuthResult(success=True)

    @property
    def messages(self) -> list[EmailMessage]:
        """What was taken."""
        parser: BytesParser[EmailMessage] = BytesParser(policy=policy.default)
        return [parser.parsebytes(bytes(each.original_content or b"")) for each in self.envelopes]


class _Controller(Controller):
    """Listens on a socket that has its port already: there is no moment in which somebody else may take it."""

    def __init__(self, mailbox: Mailbox, tls: ssl.SSLContext | None, *, starts_tls: bool) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        mailbox.port = self._listening.getsockname()[1]
        super().__init__(
            mailbox,
            hostname="127.0.0.1",
            port=mailbox.port,
            ssl_context=None if starts_tls else tls,
            tls_context=tls if starts_tls else None,
            authenticator=mailbox.authenticate,
            auth_require_tls=False,
        )

    def _create_server(self) -> Any:
        return self.loop.create_server(self._factory_invoker, sock=self._listening, ssl=self.ssl_context)


@contextmanager
def mailbox(tls: ssl.SSLContext | None = None, *, starts_tls: bool = False) -> Iterator[Mailbox]:
    """A running SMTP server; with a context one that speaks TLS, from the start or when it is asked to."""
    kept = Mailbox()
    controller = _Controller(kept, tls, starts_tls=starts_tls)
    controller.start()
    try:
        yield kept
    finally:
        controller.stop()


@dataclass
class Webhook:
    """What a webhook got, and its next answers (status, headers), then 200. `hold` keeps every request waiting."""

    url: str = ""
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    hold: threading.Event | None = None
    arrived: threading.Event = field(default_factory=threading.Event)


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A running HTTP server."""
    kept = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            kept.arrived.set()
            if kept.hold is not None:
                kept.hold.wait(60)
                return
            status, headers = kept.answers.pop(0) if kept.answers else (200, {})
            self.send_response(status)
            for name, value in {**headers, "Content-Length": "2"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    kept.url = f"http://127.0.0.1:{server.server_port}/services/T0/B0/hunter2hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield kept
    finally:
        if kept.hold is not None:
            kept.hold.set()
        server.shutdown()
        thread.join()
        server.server_close()
