"""A finding, and how a look is kept from hanging or taking the others down.

Does not belong here: what is looked at.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from mlops_platform.errors import PlatformError
from mlops_platform.settings import mask_secrets

if TYPE_CHECKING:
    from mlops_platform.settings import Settings

# A host that is gone answers nothing at all: what asks it is left behind after so long.
PATIENCE_SECONDS = 20.0
# Each attempt to connect gives up earlier, with the reason the network gave.
CONNECT_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Args:
        subject: What was looked at.
        is_ok: Whether it is in order.
        message: What was found.
        mend: The command that mends it, or that would make it better; empty if nothing is to be done.
    """

    subject: str
    is_ok: bool
    message: str
    mend: str = ""

    @property
    def is_hint(self) -> bool:
        """Whether it works as it is, and could be better."""
        return self.is_ok and bool(self.mend)


@dataclass(frozen=True, slots=True)
class Look:
    """One thing to look at.

    Args:
        subject: What.
        at: Looks.
        mend: What helps as a rule, where the failure itself does not say.
        seconds: How long it may take.
    """

    subject: str
    at: Callable[[Settings], Finding]
    mend: str = ""
    seconds: float = PATIENCE_SECONDS


Looks: TypeAlias = tuple[Look, ...]


def looked(look: Look, settings: Settings) -> Finding:
    """What the look finds; a failure, or no end of it, is a finding too."""
    found: list[Finding] = []
    # A thread that is left behind must not keep the process from ending.
    thread = threading.Thread(target=lambda: found.append(_safely(look, settings)), daemon=True)
    thread.start()
    thread.join(look.seconds)
    if found:
        return found[0]
    message = f"no answer within {look.seconds:.0f} s"
    return Finding(look.subject, is_ok=False, message=message, mend=look.mend)


def _safely(look: Look, settings: Settings) -> Finding:
    try:
        return look.at(settings)
    except PlatformError as error:
        return Finding(look.subject, is_ok=False, message=error.problem, mend=error.hint or look.mend)
    # Whatever a damaged home or a half-started server makes a library raise: the other looks go on.
    except Exception as error:  # noqa: BLE001
        return Finding(look.subject, is_ok=False, message=said(error), mend=look.mend)


def said(error: BaseException) -> str:
    """An error in one line, without the passwords of addresses."""
    text = " ".join(str(getattr(error, "orig", None) or error).split())
    return mask_secrets(f"{type(error).__name__}: {text}"[:300])
