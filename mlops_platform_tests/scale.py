"""How much of a heavy proof runs: a share with the other tests, all of it with FULL_PROOFS=1 (`make test-lake`)."""

from __future__ import annotations

import os

IS_FULL = os.environ.get("FULL_PROOFS") == "1"


def rounds(full: int, share: int) -> int:
    """`full` rounds for the whole proof, else `share`."""
    return full if IS_FULL else share
