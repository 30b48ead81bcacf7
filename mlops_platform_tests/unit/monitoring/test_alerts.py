"""AlertManager on a real mail server and a real webhook: what arrives, what is tried again, and what is only recorded.

Does not belong here: when two alerts are one (`test_alerts_state.py`), hostile text (`test_alerts_hostile.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mlops_platform.cli import app
from mlops_platform.errors import InputError, SettingsError
from mlops_platform.monitoring import AlertManager
from mlops_platform.monitoring.alerts import Delivery, alert_counts, channels, open_alert, recorded_alerts, send
from mlops_platform.settings import Settings, load_settings, setting_sources
from mlops_platform_tests.unit.monitoring.receivers import RECEIVER, Mailbox, Webhook, mailbox, webhook

PASSWORD = "hunter2mail"  # noqa: S105 - what must not be shown
RUN_ID = "0a1b2c3d-0000-4000-8000-000000000000"
DRIFT = {"status": "drift", "drift_detected": True, "report_path": "/home/reports/drift.html", "run_id": RUN_ID}


@pytest.fixture(scope="module")
def _mail() -> Iterator[Mailbox]:
    with mailbox() as running:
        yield running


@pytest.fixture(scope="module")
def _hook() -> Iterator[Webhook]:
    with webhook() as running:
        yield running


@pytest.fixture
def mail(_mail: Mailbox) -> Mailbox:
    _mail.envelopes.clear()
    _mail.answers.clear()
    _mail.attempts = 0
    return _mail


@pytest.fixture
def hook(_hook: Webhook) -> Webhook:
    _hook.requests.clear()
    _hook.answers.clear()
    return _hook


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "_WAITS", (0.0, 0.0))


@pytest.fixture
def settings(tmp_path: Path, mail: Mailbox, hook: Webhook) -> Settings:
    return load_settings(
        home=tmp_path / "home",
        smtp_url=f"smtp://alerts:{PASSWORD}@127.0.0.1:{mail.port}",
        alert_email_to=RECEIVER,
        slack_webhook_url=hook.url,
    )


def content(message: EmailMessage) -> str:
    return str(message.get_content()).replace("\r\n", "\n")


class TestDocumentedCall:
    def test_it_arrives_on_both_channels(self, settings: Settings, mail: Mailbox, hook: Webhook) -> None:
        alert_manager = AlertManager(alert_channels=["email", "slack"], settings=settings)
        told = alert_manager.send_alert(
            alert_type="drift", message="Data drift detected in customer features", severity="warning", metadata=DRIFT
        )
        assert told == {"email": Delivery("sent"), "slack": Delivery("sent")}
        (message,) = mail.messages
        assert message["Subject"] == (
            "[warning] drift: customer_churn_model – Data drift detected in customer features"
        )
        assert (message["To"], message["From"]) == (RECEIVER, "mlops@localhost")
        assert message.get_content_type() == "text/plain"
        body = content(message)
        assert body.startswith("Data drift detected in customer features\n")
        link = f"http://127.0.0.1:3001/runs/{RUN_ID}"
        assert f"Dagster run: {link}" in body
        assert "report_path: /home/reports/drift.html" in body
        (request,) = hook.requests
        assert request["blocks"][-1]["elements"][0]["text"] == f"<{link}|Dagster run>"
        assert "report_path: /home/reports/drift.html" in request["blocks"][1]["text"]["text"]
        assert mail.logins[-1] == PASSWORD.encode()

    def test_the_environment_configures_it(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mail: Mailbox, hook: Webhook
    ) -> None:
        monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "other"))
        monkeypatch.setenv("MLOPS_ALERT_CHANNELS", "email, slack")
        monkeypatch.setenv("MLOPS_SMTP_URL", f"smtp://127.0.0.1:{mail.port}")
        monkeypatch.setenv("MLOPS_ALERT_EMAIL_TO", f"{RECEIVER}, ops@example.com")
        monkeypatch.setenv("MLOPS_SLACK_WEBHOOK_URL", hook.url)
        told = AlertManager().send_alert("drift", "It drifted")
        assert {channel: delivery.status for channel, delivery in told.items()} == {"email": "sent", "slack": "sent"}
        assert mail.envelopes[0].rcpt_tos == [RECEIVER, "ops@example.com"]

    def test_without_configuration_it_is_logged_and_recorded(
        self, home: Settings, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, logger="mlops_platform.alerts"):
            assert send(home, "drift", "It drifted", subject="features") == {"log": Delivery("sent")}
        assert caplog.messages == ["[warning] drift: customer_churn_model – features: It drifted"]
        (recorded,) = recorded_alerts(home)
        assert recorded.notice.alert.message == "It drifted"
        assert alert_counts(home) == {("log", "drift", "sent"): 1}

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ({"severity": "bad"}, "info or warning or error or critical"),
            ({"alert_type": " "}, "a word such as drift"),
            ({"metadata": ["drift"]}, "a mapping"),
        ],
    )
    def test_misuse_is_an_error(self, home: Settings, arguments: dict[str, Any], expected: str) -> None:
        with pytest.raises(InputError, match=expected):
            AlertManager(settings=home).send_alert(**({"alert_type": "drift", "message": "m"} | arguments))

    @pytest.mark.parametrize("names", [["email", "pager"], "email"])
    def test_an_unknown_channel_is_an_error(self, home: Settings, names: list[str]) -> None:
        with pytest.raises(InputError, match="a list of email, slack, log"):
            AlertManager(names, settings=home)
        with pytest.raises(SettingsError, match="MLOPS_ALERT_CHANNELS"):
            load_settings(home=home.home, alert_channels="email,pager")


class TestResolved:
    def test_one_notice_to_whom_was_told(self, settings: Settings, mail: Mailbox, hook: Webhook) -> None:
        manager = AlertManager(["email"], settings=settings)
        manager.send_alert("late", "Ingestion is late", "error", subject="ingest")
        assert manager.resolve("late", subject="ingest") == {"email": Delivery("sent")}
        assert manager.resolve("late", subject="ingest") == {}
        first, over = mail.messages
        assert over["Subject"] == "[resolved] late: customer_churn_model – ingest"
        assert over["In-Reply-To"] == first["Message-ID"]
        assert content(over).startswith("Resolved: Ingestion is late")
        assert hook.requests == []
        assert recorded_alerts(settings) == []
        assert recorded_alerts(settings, is_open=False)[0].resolved_at is not None

    def test_what_was_never_told_is_not_told_to_be_over(self, settings: Settings, mail: Mailbox) -> None:
        mail.answers[:] = ["550 no"]
        manager = AlertManager(["email"], settings=settings)
        manager.send_alert("late", "Ingestion is late")
        assert manager.resolve("late", subject="Ingestion is late") == {}
        assert mail.messages == []

    def test_by_the_start_of_its_id(self, home: Settings) -> None:
        send(home, "late", "Ingestion is late")
        alert_id = recorded_alerts(home)[0].notice.alert.alert_id
        assert open_alert(home, alert_id[:8]).alert_id == alert_id
        with pytest.raises(InputError, match="0 open alerts"):
            open_alert(home, "xyz")


class TestTrouble:
    def test_a_server_that_is_down_is_recorded_and_returned(self, settings: Settings) -> None:
        broken = load_settings(home=settings.home, smtp_url="smtp://127.0.0.1:9", alert_email_to=RECEIVER)
        told = AlertManager(["email", "log"], settings=broken).send_alert("drift", "It drifted")
        assert told["log"].status == "sent"
        assert told["email"].status == "failed"
        assert "127.0.0.1:9" in told["email"].reason
        assert recorded_alerts(broken)[0].deliveries["email"] == told["email"]
        assert alert_counts(broken)["email", "drift", "failed"] == 1

    def test_a_temporary_refusal_is_tried_again_and_a_permanent_one_not(
        self, settings: Settings, mail: Mailbox
    ) -> None:
        manager = AlertManager(["email"], settings=settings)
        mail.answers[:] = ["451 later", "451 later"]
        assert manager.send_alert("drift", "one")["email"].status == "sent"
        assert mail.attempts == 3
        mail.answers[:] = ["554 never"]
        told = manager.send_alert("drift", "two")["email"]
        assert (told.status, mail.attempts) == ("failed", 4)
        assert "554" in told.reason

    def test_slack_says_wait(self, settings: Settings, hook: Webhook) -> None:
        manager = AlertManager(["slack"], settings=settings)
        hook.answers[:] = [(429, {"Retry-After": "0"})]
        assert manager.send_alert("drift", "one") == {"slack": Delivery("sent")}
        assert len(hook.requests) == 2

    @pytest.mark.parametrize("asked", ["3600", "Fri, 01 Jan 2100 00:00:00 GMT"])
    def test_slack_says_wait_too_long(self, settings: Settings, hook: Webhook, asked: str) -> None:
        hook.answers[:] = [(429, {"Retry-After": asked})]
        told = AlertManager(["slack"], settings=settings).send_alert("drift", "one")
        assert told == {"slack": Delivery("failed", "Slack answered 429: ok")}
        assert len(hook.requests) == 1

    @pytest.mark.parametrize(
        ("missing", "channel", "name"),
        [
            ("smtp_url", "email", "MLOPS_SMTP_URL"),
            ("alert_email_to", "email", "MLOPS_ALERT_EMAIL_TO"),
            ("slack_webhook_url", "slack", "MLOPS_SLACK_WEBHOOK_URL"),
        ],
    )
    def test_a_channel_without_its_setting_names_it(
        self, settings: Settings, missing: str, channel: str, name: str
    ) -> None:
        told = AlertManager([channel], settings=settings.model_copy(update={missing: None})).send_alert("drift", "one")
        assert told[channel].status == "failed"
        assert name in told[channel].reason

    @pytest.mark.parametrize(
        "url",
        ["ftp://host", "smtp://", f"smtp://u:{PASSWORD}@host:port", f"smtp://u:{PASSWORD}@[host", PASSWORD],
    )
    def test_a_malformed_address_is_not_shown(self, settings: Settings, url: str) -> None:
        changed = load_settings(home=settings.home, smtp_url=url, alert_email_to=RECEIVER)
        told = AlertManager(["email"], settings=changed).send_alert("drift", "one")["email"]
        assert told.status == "failed"
        assert "MLOPS_SMTP_URL" in told.reason
        assert PASSWORD not in told.reason

    @pytest.mark.parametrize("address", ["not an address", "a@b.c\r\nBcc: evil@example.com", ""])
    def test_a_malformed_recipient_is_refused(self, settings: Settings, mail: Mailbox, address: str) -> None:
        changed = settings.model_copy(update={"alert_email_to": f"{RECEIVER},{address}"})
        told = AlertManager(["email"], settings=changed).send_alert("drift", "one")["email"]
        assert told.status == "failed"
        assert "MLOPS_ALERT_EMAIL_TO" in told.reason
        assert mail.attempts == 0

    def test_a_record_that_cannot_be_used_holds_nothing_back(
        self, settings: Settings, mail: Mailbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        settings.alert_state.mkdir(parents=True)
        manager = AlertManager(["email"], settings=settings)
        assert manager.send_alert("drift", "one") == {"email": Delivery("sent")}
        assert manager.resolve("drift", subject="one") == {}
        assert manager.retry() == {}
        assert len(mail.messages) == 1
        assert "can't be used" in caplog.text


class TestSecrets:
    def test_they_are_in_no_message_log_or_record(
        self, settings: Settings, mail: Mailbox, hook: Webhook, caplog: pytest.LogCaptureFixture
    ) -> None:
        metadata = {
            "source": f"postgresql://ana:{PASSWORD}@host/crm",
            "api_token": PASSWORD,
            "config": {"db": {"password": PASSWORD, "port": 1}, "webhook": [PASSWORD]},
        }
        with caplog.at_level(logging.DEBUG):
            manager = AlertManager(["email", "slack", "log"], settings=settings)
            manager.send_alert("drift", f"can't read smtp://a:{PASSWORD}@host", "error", metadata)
            hook.answers[:] = [(404, {})]
            manager.send_alert("drift", "two")
        shown = mail.messages[0].as_string() + str(hook.requests) + caplog.text
        assert "postgresql://ana:***@host/crm" in shown
        assert '"port": 1' in content(mail.messages[0])
        for secret in (PASSWORD, "hunter2hook"):
            assert secret not in shown
            assert secret.encode() not in settings.alert_state.read_bytes()

    def test_settings_mask_them(self, settings: Settings) -> None:
        shown = str(setting_sources(settings)) + repr(settings)
        assert PASSWORD not in shown
        assert "hunter2hook" not in shown

    def test_a_password_goes_to_no_other_machine_in_the_clear(self, settings: Settings, mail: Mailbox) -> None:
        # 127.1 is this machine, but not by a name that counts as such.
        url = f"smtp://alerts:{PASSWORD}@127.1:{mail.port}"
        logins = len(mail.logins)
        changed = load_settings(home=settings.home, smtp_url=url, alert_email_to=RECEIVER)
        told = AlertManager(["email"], settings=changed).send_alert("drift", "one")["email"]
        assert told.status == "failed"
        assert "offers no TLS" in told.reason
        assert len(mail.logins) == logins


class TestCommands:
    def test_a_test_alert_says_what_became_of_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLOPS_HOME", str(tmp_path / "home"))
        done = CliRunner().invoke(app, ["alerts", "test"])
        assert (done.exit_code, done.stdout) == (0, "log    sent\n")
        # A second one is no repetition of the first.
        done = CliRunner().invoke(app, ["alerts", "test", "--channel", "log", "--channel", "slack"])
        assert done.exit_code == 2
        assert "log    sent\nslack  failed: the channel slack needs MLOPS_SLACK_WEBHOOK_URL" in done.stdout
        assert CliRunner().invoke(app, ["alerts", "list"]).stdout == "No alert is open.\n"

    def test_closing_one_by_hand(self, home: Settings) -> None:
        send(home, "late", "Ingestion is late")
        alert_id = recorded_alerts(home)[0].notice.alert.alert_id
        shown = CliRunner().invoke(app, ["alerts", "list", "--home", str(home.home)])
        assert alert_id[:8] in shown.stdout
        done = CliRunner().invoke(app, ["alerts", "resolve", alert_id[:8], "--home", str(home.home)])
        assert (done.exit_code, done.stdout) == (0, "log    sent\n")
        assert recorded_alerts(home) == []
