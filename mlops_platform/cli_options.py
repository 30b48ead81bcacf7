"""What the commands of `mlops` share: options, settings, and how a mistake the user can mend is shown.

Does not belong here: commands (`cli.py`, `cli_features.py`).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlops_platform.errors import InputError, PlatformError

if TYPE_CHECKING:
    from mlops_platform.settings import Settings

EXIT_USER_ERROR = 2

Home = Annotated[Path | None, typer.Option("--home", help="Folder of everything written. [MLOPS_HOME, else .mlops]")]

Profile = Annotated[
    str | None,
    typer.Option("--profile", help="embedded, server or aws: where it runs. [MLOPS_PROFILE, else embedded]"),
]


@contextmanager
def reporting() -> Iterator[None]:
    """A PlatformError becomes one message on stderr and exit code 2."""
    try:
        yield
    except PlatformError as error:
        from mlops_platform.console import err

        err.print(f"mlops: {error}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(EXIT_USER_ERROR)


def settings(home: Path | None = None, **arguments: Any) -> Settings:
    """The home's settings, with what other libraries read from the environment set there."""
    from mlops_platform.settings import apply_exports, load_settings

    found = load_settings(home=home, **arguments)
    apply_exports(found)
    return found


def day(text: str | None, option: str) -> date | None:
    """A day as typed; None where the option was not given.

    Raises:
        InputError: It is no day.
    """
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"{option} {text!r} is no day", expected="a day such as 2024-01-31") from error
