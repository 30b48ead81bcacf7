"""200 hostile strings in every place of an alert: in mail, Slack's JSON, the list and its CSV none is more than text.

Does not belong here: the drift report and the UI's metadata, which have their own.
"""

from __future__ import annotations

import csv
import io
import random
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mlops_platform.cli import app
from mlops_platform.monitoring import AlertManager
from mlops_platform.monitoring.alerts import recorded_alerts
from mlops_platform.settings import Settings, load_settings
from mlops_platform_tests.scale import rounds
from mlops_platform_tests.unit.monitoring.receivers import RECEIVER, Mailbox, Webhook, mailbox, webhook

STRINGS = rounds(full=200, share=60)
SEEDS = [
    "<script>window.owned=1</script>",
    "</script><script>owned()</script>",
    '"><img src=x onerror=owned()>',
    "javascript:owned()",
    "<!channel> now",
    "<!here|here> <@U012AB3CD> <#C012AB3CD>",
    "<https://evil.example|Dagster run>",
    "<mailto:evil@example.com|write>",
    "https://evil.example/ *bold* _it_ `code` ~no~ :bomb:",
    "&lt;!channel&gt; &amp; &#60;b&#62;",
    "x\r\nBcc: evil@example.com",
    "x\nSubject: other\nTo: evil@example.com\n\n<html>body</html>",
    "x\r\n.\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<evil@example.com>\r\nDATA\r\nowned\r\n.",
    "=?utf-8?q?=0D=0ABcc:_evil=40example.com?=",
    '=HYPERLINK("http://evil.example","run")',
    "=cmd|' /C calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(1+1)",
    "\t=1+1",
    "\r=1+1",
    "  =1+1",
    "＝1+1",
    '","=1+1","',
    "a\nb\n=1+1",
    "\x1b[2J\x1b]0;owned\x07red",
    "\x00\x01\x02\x7f\x9b31m",
    "\u202ereversed\u202c \u2066isolated\u2069 \u200bzero",
    "\u2028line\u2029paragraph\u0085next",
    "\ud800lone\udfff",
    "'; DROP TABLE alerts; --",
    "{{ 7*7 }} ${7*7} #{7*7} %s %n {0} {alert.key}",
    "[bold red]markup[/] [link=http://evil.example]x[/link]",
    "A" * 100_000,
    "&<>" * 5_000,
    "ﷺ" * 3_000,
    "x://a:" * 3_000,
    "",
]
SHOWN_KINDS = {"Cc", "Cf", "Cs", "Zl", "Zp"}
RUN = re.compile(r"<http://127\.0\.0\.1:3001/runs/[0-9a-z-]+\|Dagster run>")


def hostile_strings() -> list[str]:
    """The seeds, and pairs of them put together."""
    rng = random.Random(7)
    pairs = [
        rng.choice(SEEDS)[:500] + rng.choice(("", " ", "\r\n", "\x00")) + rng.choice(SEEDS)[:500] for _ in range(200)
    ]
    return (SEEDS + pairs)[:STRINGS]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Mailbox, Webhook]]:
    """Each string sent once in every place."""
    with mailbox() as mail, webhook() as hook:
        settings = load_settings(
            home=tmp_path_factory.mktemp("hostile") / "home",
            smtp_url=f"smtp://127.0.0.1:{mail.port}",
            alert_email_to=RECEIVER,
            slack_webhook_url=hook.url,
            alert_hourly_limit=1_000,
        )
        manager = AlertManager(["email", "slack"], settings=settings)
        for number, text in enumerate(hostile_strings()):
            result = manager.send_alert(
                f"t{text}",
                text,
                "error",
                {text: text, "list": [text, {text: text}], "run_id": f"run-{number}", "report_path": Path(text[:50])},
                model=text,
                subject=f"{text}{number}",
            )
            assert {delivery.status for delivery in result.values()} == {"sent"}, (text[:80], result)
            if number % 10 == 0:
                manager.resolve(f"t{text}", subject=f"{text}{number}", model=text)
        # As a run id or a model of the metadata it makes no link.
        manager.send_alert("last", "ends", metadata={"run_id": SEEDS[6], "model_name": SEEDS[4]})
        yield settings, mail, hook


def test_mail_has_our_headers_and_plain_text_only(told: tuple[Settings, Mailbox, Webhook]) -> None:
    _, mail, _ = told
    assert len(mail.envelopes) == STRINGS + STRINGS // 10 + 1
    ours = {
        "Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "MIME-Version",
        "Content-Type", "Content-Transfer-Encoding", "In-Reply-To", "References", "X-Peer", "X-MailFrom", "X-RcptTo",
    }  # fmt: skip
    for envelope, message in zip(mail.envelopes, mail.messages, strict=True):
        assert envelope.rcpt_tos == [RECEIVER]
        assert envelope.mail_from == "mlops@localhost"
        assert set(message.keys()) <= ours
        assert len(message.keys()) == len(set(message.keys()))
        assert message["To"] == RECEIVER
        assert message.get_content_type() == "text/plain"
        assert not message.defects
        assert re.match(r"\[(error|warning|resolved)\] ", message["Subject"])
        assert unseen(message["Subject"]) == set()
        assert unseen(message.get_content().replace("\r\n", "").replace("\n", "")) == set()
        assert len(envelope.original_content or b"") < 100_000


def test_slack_gets_no_markup_link_or_mention(told: tuple[Settings, Mailbox, Webhook]) -> None:
    _, _, hook = told
    assert len(hook.requests) == STRINGS + STRINGS // 10 + 1
    linked = 0
    for request in hook.requests:
        assert set(request) == {"text", "blocks"}
        for block in request["blocks"]:
            if block["type"] == "context":
                (element,) = block["elements"]
                assert RUN.fullmatch(element["text"])
                assert element["verbatim"] is True
                linked += 1
                continue
            assert block["text"]["type"] == "plain_text"
            assert block["text"]["emoji"] is False
            assert 0 < len(block["text"]["text"]) <= (150 if block["type"] == "header" else 3_000)
            assert is_escaped(block["text"]["text"])
        assert is_escaped(request["text"])
    assert linked == len(hook.requests) - 1


def test_csv_has_no_formula_and_one_row_an_alert(told: tuple[Settings, Mailbox, Webhook]) -> None:
    settings, _, _ = told
    rows = list(
        csv.DictReader(io.StringIO(run("alerts", "list", "--all", "--csv", "--most", "500", settings=settings)))
    )
    assert len(rows) == STRINGS + 1
    for row in rows:
        for cell in row.values():
            assert not cell.strip().startswith(("=", "+", "-", "@", "＝", "\t", "\r")), cell[:80]
            assert unseen(cell.replace("\n", "")) == set()
    assert any(row["message"] == "'=cmd|' /C calc'!A0" for row in rows)


def test_the_terminal_is_not_controlled(told: tuple[Settings, Mailbox, Webhook]) -> None:
    settings, _, _ = told
    shown = run("alerts", "list", "--all", "--most", "500", settings=settings)
    assert unseen(shown.replace("\n", "")) == set()
    assert "[bold" in shown


def test_the_record_holds_text_as_it_is_shown(told: tuple[Settings, Mailbox, Webhook]) -> None:
    settings, _, _ = told
    found = recorded_alerts(settings, is_open=False, most=500)
    assert len(found) == STRINGS + 1
    for recorded in found:
        alert = recorded.notice.alert
        for text in (alert.alert_type, alert.model, alert.subject, *alert.details, *alert.details.values()):
            assert unseen(text) == set()
            assert len(text) <= 300
        assert len(alert.message) <= 3_000


def unseen(text: str) -> set[str]:
    """The characters of a text that can't be seen."""
    return {sign for sign in text if unicodedata.category(sign) in SHOWN_KINDS}


def is_escaped(text: str) -> bool:
    """Whether Slack reads it as mere text: no angle brackets, and every & begins an entity."""
    return "<" not in text and ">" not in text and not re.search(r"&(?!(amp|lt|gt);)", text)


def run(*command: Any, settings: Settings) -> str:
    done = CliRunner().invoke(app, [*command, "--home", str(settings.home)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output
