"""The channels: e-mail over SMTP, a Slack webhook, the log. Each delivers one notice, or says why it could not.

Belongs here: connections, retries within one delivery, and the settings a channel needs. Does not belong here: whether
to send at all (`state.py`), what the notice says (`message.py`).
"""

from __future__ import annotations

import http.client
import logging
import smtplib
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, Literal, get_args
from urllib.parse import unquote, urlsplit

from mlops_platform.errors import SettingsError
from mlops_platform.monitoring.alerts import text
from mlops_platform.monitoring.alerts.message import Delivery, Notice

if TYPE_CHECKING:
    from slack_sdk.http_retry import RetryHandler

    from mlops_platform.settings import Settings

ChannelName = Literal["email", "slack", "log"]
CHANNELS: tuple[ChannelName, ...] = get_args(ChannelName)

# A person is told; a program that hangs on its mail server is worse than a late message.
TIMEOUT_SECONDS = 10
LONGEST_RETRY_AFTER = 30
_WAITS = (0.5, 2.0)
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_PORTS = {"smtp": 25, "smtps": 465}

_log = logging.getLogger("mlops_platform.alerts")
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR, "critical": logging.CRITICAL}


def deliver(settings: Settings, channel: ChannelName, notice: Notice) -> Delivery:
    """Sends a notice. Never raises for what can go wrong between here and the person.

    Returns:
        `sent`, or `failed` with the reason, which holds no secret.
    """
    try:
        return _CHANNELS[channel](settings, notice)
    except (OSError, http.client.HTTPException, smtplib.SMTPException, MessageError, ValueError) as error:
        problem = str(error) or type(error).__name__
    except SettingsError as error:
        problem = str(error)
    return Delivery("failed", _without_secrets(settings, problem))


def _to_log(settings: Settings, notice: Notice) -> Delivery:
    level = logging.INFO if notice.kind == "resolved" else _LEVELS[notice.alert.severity]
    _log.log(level, "%s: %s", notice.title, text.line(notice.alert.message))
    return Delivery("sent")


@dataclass(frozen=True, slots=True)
class _MailServer:
    """What `MLOPS_SMTP_URL` says."""

    host: str
    port: int
    is_tls: bool
    user: str
    password: str = field(repr=False)


def _to_email(settings: Settings, notice: Notice) -> Delivery:
    server, message = _mail_server(settings), _email(settings, notice)
    for wait in (*_WAITS, None):
        try:
            refused = _submit(server, message)
        except (OSError, smtplib.SMTPException) as error:
            if wait is None or _is_permanent(error):
                problem = f"the mail server {server.host}:{server.port} says: {error}"
                return Delivery("failed", _without_secrets(settings, problem))
            time.sleep(wait)
        else:
            return Delivery("sent", f"refused by the server: {', '.join(refused)}" if refused else "")
    raise AssertionError("the last attempt returns or raises")


def _submit(server: _MailServer, message: EmailMessage) -> list[str]:
    """Hands the message to the server; returns the recipients it refused."""
    smtp: smtplib.SMTP
    if server.is_tls:
        smtp = smtplib.SMTP_SSL(server.host, server.port, timeout=TIMEOUT_SECONDS, context=ssl.create_default_context())
    else:
        smtp = smtplib.SMTP(server.host, server.port, timeout=TIMEOUT_SECONDS)
    try:
        smtp.ehlo()
        if not server.is_tls and smtp.has_extn("starttls"):
            smtp.starttls(context=ssl.create_default_context())
            smtp.ehlo()
        elif not server.is_tls and server.user and server.host not in _LOOPBACK:
            raise SettingsError(
                f"{server.host} offers no TLS, and MLOPS_SMTP_URL holds a password",
                hint="use smtps://, or a server with STARTTLS.",
            )
        if server.user:
            smtp.login(server.user, server.password)
        refused = smtp.send_message(message)
    except BaseException:
        smtp.close()
        raise
    # The server has taken the message: a goodbye that fails must not send it again.
    with suppress(OSError, smtplib.SMTPException):
        smtp.quit()
    return list(refused)


def _is_permanent(error: Exception) -> bool:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    if isinstance(error, smtplib.SMTPResponseException):
        return error.smtp_code >= 500
    return isinstance(error, smtplib.SMTPNotSupportedError | ssl.SSLCertVerificationError)


def _email(settings: Settings, notice: Notice) -> EmailMessage:
    if not settings.alert_email_to:
        raise _unset("email", "MLOPS_ALERT_EMAIL_TO", "who gets alerts")
    message = EmailMessage()
    # Python decodes encoded words, and up to 3.11.9 and 3.12.4 writes line breaks in them as such: CVE-2024-6923.
    message["Subject"] = notice.title.replace("=?", "= ?")
    message["From"] = _address(settings.alert_email_from, "MLOPS_ALERT_EMAIL_FROM")
    message["To"] = [_address(each, "MLOPS_ALERT_EMAIL_TO") for each in settings.alert_email_to.split(",")]
    message["Date"] = format_datetime(notice.last_at.astimezone(UTC))
    first = f"<{notice.alert.alert_id}@mlops.invalid>"
    if notice.kind == "alert" and not notice.is_reminder:
        # The same in every attempt: a mail program shows a message that came twice once.
        message["Message-ID"] = first
    else:
        message["Message-ID"] = f"<{notice.alert.alert_id}.{notice.kind}.{notice.occurrences}@mlops.invalid>"
        message["In-Reply-To"] = message["References"] = first
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(notice.body)
    return message


def _address(given: str, setting: str) -> Address:
    try:
        return Address(addr_spec=given.strip())
    except (MessageError, ValueError, IndexError) as error:
        raise SettingsError(
            f"{setting} holds {text.line(given)!r}, which is no e-mail address", hint=f"correct {setting}."
        ) from error


def _mail_server(settings: Settings) -> _MailServer:
    if settings.smtp_url is None:
        raise _unset("email", "MLOPS_SMTP_URL", "the mail server")
    try:
        found = urlsplit(settings.smtp_url.get_secret_value())
        host, port = found.hostname, found.port
        if found.scheme in _PORTS and host:
            return _MailServer(
                host=host,
                port=port or _PORTS[found.scheme],
                is_tls=found.scheme == "smtps",
                user=unquote(found.username or ""),
                password=unquote(found.password or ""),
            )
    except ValueError:
        pass  # the address is told by the same message as any other bad one, without what was given
    raise SettingsError("MLOPS_SMTP_URL is no address of a mail server", expected="smtp://… or smtps://…")


def _to_slack(settings: Settings, notice: Notice) -> Delivery:
    from slack_sdk.errors import SlackClientError
    from slack_sdk.webhook import WebhookClient

    if settings.slack_webhook_url is None:
        raise _unset("slack", "MLOPS_SLACK_WEBHOOK_URL", "Slack's incoming webhook")
    url = settings.slack_webhook_url.get_secret_value()
    if urlsplit(url).scheme not in {"http", "https"}:
        raise SettingsError("MLOPS_SLACK_WEBHOOK_URL is no web address", expected="https://…")
    # The client logs the address, which is the secret, and every failure: the record of deliveries says it instead.
    silent = logging.Logger("slack", level=logging.CRITICAL + 1)
    client = WebhookClient(url, timeout=TIMEOUT_SECONDS, logger=silent, retry_handlers=_retry_handlers())
    # urllib knows the proxy variables, NO_PROXY among them, which the client does not.
    client.proxy = None
    try:
        answer = client.send_dict(notice.slack())
    except SlackClientError as error:
        raise ValueError(str(error)) from error
    if answer.status_code == http.client.OK:
        return Delivery("sent")
    return Delivery("failed", text.line(f"Slack answered {answer.status_code}: {answer.body}"))


def _retry_handlers() -> list[RetryHandler]:
    from slack_sdk.http_retry.builtin_handlers import (
        ConnectionErrorRetryHandler,
        RateLimitErrorRetryHandler,
        ServerErrorRetryHandler,
    )

    class BriefRateLimit(RateLimitErrorRetryHandler):
        """Waits as long as Slack asks, but not for ever: what takes longer is tried again later."""

        def _can_retry(self, *, response: Any = None, **more: Any) -> bool:
            if not super()._can_retry(response=response, **more):
                return False
            asked = next((each[0] for name, each in response.headers.items() if name.lower() == "retry-after"), "1")
            # It may also be a date.
            return asked.isdecimal() and int(asked) <= LONGEST_RETRY_AFTER

    return [BriefRateLimit(max_retry_count=2), ConnectionErrorRetryHandler(1), ServerErrorRetryHandler(2)]


def _unset(channel: str, setting: str, what: str) -> SettingsError:
    return SettingsError(f"the channel {channel} needs {setting}, {what}, which is not set")


def _without_secrets(settings: Settings, problem: str) -> str:
    for secret in (settings.smtp_url, settings.slack_webhook_url):
        if secret is not None and secret.get_secret_value():
            problem = problem.replace(secret.get_secret_value(), "***")
    if settings.smtp_url is not None and (password := _password(settings.smtp_url.get_secret_value())):
        problem = problem.replace(password, "***")
    return text.line(problem)


def _password(url: str) -> str:
    try:
        return unquote(urlsplit(url).password or "")
    except ValueError:
        return ""


_CHANNELS: dict[ChannelName, Callable[[Settings, Notice], Delivery]] = {
    "email": _to_email,
    "slack": _to_slack,
    "log": _to_log,
}
