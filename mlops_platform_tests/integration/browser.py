"""A headless Chromium of this machine, and what a page did in it.

Belongs here: finding the browser and listening to a page. Does not belong here: tests.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

COMMANDS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
# What a payload sets or says when it runs.
FLAG = "hacked"


@dataclass
class Visit:
    """A page and what happened on it.

    Args:
        page: Playwright's page.
        dialogs: Messages of alert, confirm and prompt.
        console: Messages written to the console, among them what the page's policy refused.
        errors: Exceptions that scripts did not catch.
        requests: Addresses asked for beyond the machine.
    """

    page: Page
    dialogs: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def executed(self) -> list[str]:
        """Signs that a payload ran, or tried to."""
        flag = self.page.evaluate(f"String(window.{FLAG} ?? '')")
        return [*self.dialogs, *([flag] if flag else []), *(line for line in self.console if _is_sign(line))]


def executable() -> str:
    """The browser's command; the test is skipped where there is none."""
    found = next(filter(None, map(shutil.which, COMMANDS)), None)
    if found is None:
        pytest.skip(f"no Chromium here: none of {', '.join(COMMANDS)} is installed")
    return found


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running browser.

    While it runs, this thread has a running event loop: Dagster can't execute anything in it.
    """
    from playwright.sync_api import sync_playwright

    command = executable()
    with sync_playwright() as playwright:
        # Its sandbox refuses to start for root.
        browser = playwright.chromium.launch(executable_path=command, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(browser: Browser) -> Iterator[Visit]:
    """An empty page that is listened to."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    seen = Visit(page)

    def dismissed(dialog: object) -> None:
        seen.dialogs.append(str(getattr(dialog, "message", "")))
        dialog.dismiss()  # type: ignore[attr-defined]

    page.on("dialog", dismissed)
    page.on("console", lambda message: seen.console.append(message.text))
    page.on("pageerror", lambda error: seen.errors.append(str(error)))
    page.on("request", lambda request: seen.requests.append(request.url))
    try:
        yield seen
    finally:
        page.close()


def _is_sign(line: str) -> bool:
    return FLAG in line or "Content Security Policy" in line
