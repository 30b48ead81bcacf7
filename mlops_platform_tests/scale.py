"""How much of a heavy proof runs: a share with the other tests, all of it with FULL_PROOFS=1 (`make test-lake`)."""

from __future__ import annotations

import os

import pytest

IS_FULL = os.environ.get("FULL_PROOFS") == "1"


# Of a proof that has no smaller share.
only_whole = pytest.mark.skipif(not IS_FULL, reason="takes long: runs with FULL_PROOFS=1, as in `make test-lake`")


def rounds(full: int, share: int) -> int:
    """`full` rounds for the whole proof, else `share`."""
    return full if IS_FULL else share
