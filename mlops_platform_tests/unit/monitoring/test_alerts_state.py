"""When an alert is told, held back, told again and told to be over: the laws of the record, with time as an argument.

Does not belong here: what arrives on a channel (`test_alerts.py`).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.monitoring.alerts import AlertManager, Delivery, alert_counts, recorded_alerts
from mlops_platform.monitoring.alerts.message import SEVERITIES
from mlops_platform.monitoring.alerts.state import BACKOFF_SECONDS, KEEP_SECONDS, LEASE_SECONDS
from mlops_platform.settings import Settings, child_environment, load_settings
from mlops_platform_tests.unit.monitoring.receivers import Webhook, webhook

START = datetime(2026, 1, 1, tzinfo=UTC)
SENT, HELD = Delivery("sent"), "suppressed"
ROOT = Path(__file__).resolve().parents[3]

SENDER = """
import sys, time
from pathlib import Path
from mlops_platform.monitoring import AlertManager
manager = AlertManager(["slack"])
Path(sys.argv[1]).touch()
while not Path(sys.argv[2]).exists():
    time.sleep(0.005)
for number in range(int(sys.argv[3])):
    manager.send_alert("drift", "It drifted", subject=f"s{number}")
"""


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def slack(folder: Path, hook: Webhook, **more: Any) -> Settings:
    return load_settings(home=folder / "home", slack_webhook_url=hook.url, **more)


class TestLaws:
    @settings(max_examples=15, deadline=None)
    @given(
        st.lists(
            st.tuples(
                st.sampled_from(["send", "send", "resolve"]),
                st.sampled_from([("drift", "m", "a"), ("drift", "m", "b"), ("drift", "n", "a"), ("late", "m", "a")]),
                st.sampled_from(SEVERITIES),
                st.sampled_from([0.0, 1.0, 23.0, 24.0]),
            ),
            max_size=12,
        )
    )
    def test_told_once_per_interval_and_over_once(self, steps: list[Any]) -> None:
        told: dict[tuple[str, str, str], tuple[float, int]] = {}
        now = 0.0
        with tempfile.TemporaryDirectory() as folder:
            manager = AlertManager(settings=load_settings(home=Path(folder)))
            for step, key, severity, later in steps:
                now += later
                alert_type, model, subject = key
                if step == "resolve":
                    found = manager.resolve(alert_type, subject=subject, model=model, now=at(now))
                    assert found == ({"log": SENT} if key in told else {})
                    told.pop(key, None)
                    continue
                result = manager.send_alert(alert_type, "!", severity, model=model, subject=subject, now=at(now))["log"]
                rank = SEVERITIES.index(severity)
                is_due = key not in told or now - told[key][0] >= 24 or rank > told[key][1]
                assert result.status == ("sent" if is_due else HELD)
                if is_due:
                    told[key] = (now, rank)
            assert len(recorded_alerts(manager.settings)) == len(told)

    def test_the_subject_is_the_message_where_none_is_given(self, home: Settings) -> None:
        manager = AlertManager(settings=home)
        results = [manager.send_alert("drift", text, now=at(0))["log"].status for text in ("one", "two", "one")]
        assert results == ["sent", "sent", HELD]

    def test_what_looks_the_same_when_cut_is_not_the_same(self, home: Settings) -> None:
        manager = AlertManager(settings=home)
        subjects = ["x" * 5_000 + end for end in ("1", "2")] + ["a\x00b", "ab"]
        assert [manager.send_alert("d", "!", subject=each)["log"].status for each in subjects] == ["sent"] * 4

    def test_the_interval_is_a_setting(self, tmp_path: Path) -> None:
        manager = AlertManager(settings=load_settings(home=tmp_path / "home", alert_reminder_hours=2))
        results = [manager.send_alert("drift", "one", now=at(hours))["log"].status for hours in (0, 1.9, 2)]
        assert results == ["sent", HELD, "sent"]
        assert recorded_alerts(manager.settings)[0].notice.occurrences == 3
        assert alert_counts(manager.settings) == {("log", "drift", "sent"): 2, ("log", "drift", HELD): 1}


class TestLater:
    def test_what_failed_is_sent_when_the_channel_is_back(self, tmp_path: Path) -> None:
        with webhook() as hook:
            manager = AlertManager(["slack"], settings=slack(tmp_path, hook))
            hook.answers[:] = [(400, {}), (400, {})]
            assert manager.send_alert("drift", "one", now=START)["slack"].status == "failed"
            # The pause doubles: after one minute, then after two.
            expected = {BACKOFF_SECONDS - 1: None, BACKOFF_SECONDS + 1: "failed", 3 * BACKOFF_SECONDS: None}
            for seconds, status in {**expected, 3 * BACKOFF_SECONDS + 2: "sent", 86_400: None}.items():
                found = manager.retry(now=START + timedelta(seconds=seconds))
                assert {name: each.status for name, each in found.items()} == ({"slack": status} if status else {})
            assert len(hook.requests) == 3

    def test_a_resolved_notice_that_failed_too(self, tmp_path: Path) -> None:
        with webhook() as hook:
            manager = AlertManager(["slack"], settings=slack(tmp_path, hook))
            manager.send_alert("drift", "one", now=START)
            hook.answers[:] = [(400, {})]
            assert manager.resolve("drift", subject="one", now=at(1))["slack"].status == "failed"
            assert manager.retry(now=at(1)) == {}
            assert manager.retry(now=at(2)) == {"slack": SENT}
            assert manager.retry(now=at(3)) == {}
            assert [request["text"].split()[0] for request in hook.requests] == [
                "[warning]",
                "[resolved]",
                "[resolved]",
            ]

    def test_no_more_than_so_many_an_hour_and_none_is_lost(self, tmp_path: Path) -> None:
        with webhook() as hook:
            manager = AlertManager(["slack", "log"], settings=slack(tmp_path, hook, alert_hourly_limit=3))
            told = [manager.send_alert("drift", f"number {n}", now=at(0)) for n in range(5)]
            assert [each["slack"].status for each in told] == ["sent"] * 3 + ["failed"] * 2
            assert "3 messages an hour" in told[-1]["slack"].reason
            assert all(each["log"] == SENT for each in told)
            assert manager.retry(now=at(0.5)) == {}
            manager.retry(now=at(2))
            texts = {request["text"] for request in hook.requests}
            assert len(texts) == len(hook.requests) == 5

    def test_a_channel_that_is_down_is_tried_with_one_message(self, tmp_path: Path) -> None:
        with webhook() as hook:
            manager = AlertManager(["slack", "log"], settings=slack(tmp_path, hook))
            hook.answers[:] = [(400, {})] * 4
            for number in range(3):
                manager.send_alert("drift", f"number {number}", now=at(0))
            assert manager.retry(now=at(1))["slack"].status == "failed"
            assert len(hook.requests) == 3 + 1
            assert manager.retry(now=at(2)) == {"slack": SENT}
            assert len(hook.requests) == 3 + 1 + 3

    def test_what_is_long_past_is_forgotten(self, home: Settings) -> None:
        manager = AlertManager(settings=home)
        manager.send_alert("drift", "old", now=START)
        manager.retry(now=START + timedelta(seconds=KEEP_SECONDS - 1))
        assert len(recorded_alerts(home)) == 1
        manager.retry(now=START + timedelta(seconds=KEEP_SECONDS + 1))
        assert recorded_alerts(home) == []
        assert alert_counts(home) == {("log", "drift", "sent"): 1}


class TestProcesses:
    def test_two_at_once_tell_each_alert_once(self, tmp_path: Path) -> None:
        alerts = 12
        with webhook() as hook:
            environment = child_environment(slack(tmp_path, hook), MLOPS_SLACK_WEBHOOK_URL=hook.url)
            ready, go = [tmp_path / "ready-0", tmp_path / "ready-1"], tmp_path / "go"
            senders = [sender(path, go, alerts, environment) for path in ready]
            wait_for(ready, senders)
            go.touch()
            for process in senders:
                assert process.wait(60) == 0
            subjects = Counter(request["text"] for request in hook.requests)
        assert len(subjects) == alerts
        assert set(subjects.values()) == {1}
        found = recorded_alerts(slack(tmp_path, hook))
        assert {each.notice.occurrences for each in found} == {2}

    def test_killed_while_sending_it_is_sent_again(self, tmp_path: Path) -> None:
        with webhook() as hook:
            hook.hold = threading.Event()
            chosen = slack(tmp_path, hook)
            environment = child_environment(chosen, MLOPS_SLACK_WEBHOOK_URL=hook.url)
            ready, go = tmp_path / "ready", tmp_path / "go"
            go.touch()
            process = sender(ready, go, 1, environment)
            assert hook.arrived.wait(60)
            process.send_signal(signal.SIGKILL)
            process.wait(60)
            hook.hold.set()
            hook.hold = None
            (recorded,) = recorded_alerts(chosen)
            assert recorded.deliveries == {"slack": None}
            claimed = recorded.notice.last_at
            manager = AlertManager(["slack"], settings=chosen)
            # Until the lease is over it may be on its way.
            soon, late = claimed + timedelta(seconds=LEASE_SECONDS - 1), claimed + timedelta(seconds=LEASE_SECONDS)
            assert manager.retry(now=soon) == {}
            for now in (claimed, soon):
                again = manager.send_alert("drift", "It drifted", subject="s0", now=now)["slack"]
                assert again == Delivery(HELD, "it is being sent")
            assert manager.retry(now=late) == {"slack": SENT}
            assert manager.retry(now=late) == {}
            assert len(hook.requests) == 2
        # The attempt that died is a failed one.
        assert alert_counts(chosen)["slack", "drift", "failed"] == 1


def sender(ready: Path, go: Path, alerts: int, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SENDER, str(ready), str(go), str(alerts)]
    return subprocess.Popen(command, env={**environment, "PYTHONPATH": str(ROOT)})


def wait_for(paths: list[Path], processes: list[subprocess.Popen[bytes]]) -> None:
    while not all(path.exists() for path in paths):
        if any(process.poll() is not None for process in processes):
            pytest.fail("a sender ended before it was ready")
        os.sched_yield()
