"""`mlops …` run inside the test's process: what it printed and how it ended, environment put back afterwards.

A subprocess pays three seconds of imports a command; tests that need one (a kill, a shell) start it themselves. Does
not belong here: tests.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from unittest import mock

from mlops_platform import console
from mlops_platform.cli import main

WIDTH = 120


@dataclass(frozen=True)
class Done:
    """A command that has ended.

    Args:
        code: Exit code.
        out: Standard output.
        err: Standard error.
    """

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """What it said on standard error, but for the lines of progress."""
        return "\n".join(line for line in self.err.splitlines() if not line.startswith("· "))

    def is_refusal(self, *words: str) -> bool:
        """One message, exit code 2, no traceback, with all these words in it."""
        found = self.message
        assert self.code == 2, self
        assert found.startswith("mlops: "), self
        assert found.count("mlops: ") == 1, self
        assert "Traceback" not in self.out + self.err, self
        missing = [word for word in words if word not in found]
        assert not missing, f"{missing} not in: {found}"
        return True


def mlops(*arguments: object, **environment: str) -> Done:
    """Runs `mlops` with these arguments; `environment` is set for this command only."""
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    code = 0
    # Rich asks for the variable once, when a console is made: another test may have made them.
    console.out.width = console.err.width = WIDTH
    with (
        mock.patch.dict(os.environ, {"COLUMNS": str(WIDTH), **environment}),
        mock.patch.object(sys, "argv", ["mlops", *map(str, arguments)]),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return Done(code, _text(out), _text(err))


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    held = stream.buffer
    assert isinstance(held, io.BytesIO)
    return held.getvalue().decode()


@contextmanager
def working_in(folder: os.PathLike[str]) -> Iterator[None]:
    """The folder is the working directory for a while."""
    before = os.getcwd()  # noqa: PTH109 - what chdir takes back
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
