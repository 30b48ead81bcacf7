"""The platform's exceptions, one tree.

Belongs here: every error that a user of the platform can meet and mend. Does not belong here: handling of them
(the CLI turns a `PlatformError` into one message and exit code 2, the service into a 4xx).

    PlatformError
    ├── SettingsError          a setting is missing, malformed or contradicts the home it is used on
    ├── InputError             an argument, a path or a file the caller gave can't be used
    ├── SourceError            the CRM can't be reached, or lacks a table, a column or any row
    ├── ContractError          data breaks its table's contract; nothing was published
    ├── StorageError           a table, the catalog or the disk can't be read or written
    │   └── ConflictError      another run changed the table meanwhile; the same again will do
    ├── QueryError             SQL that is not one SELECT over known tables
    ├── NotEnoughDataError     too little history: no matured label, one class only, nothing to score
    └── ModelError             no such model or version, or one that must not be loaded

Anything that is not a `PlatformError` is a fault of ours: it ends the run with its traceback.
"""

from __future__ import annotations


class PlatformError(Exception):
    """Base of every error a user can mend.

    Args:
        problem: What was wrong, naming the thing at fault.
        expected: What was expected instead.
        hint: What to do next, as a rule a command.
    """

    def __init__(self, problem: str, *, expected: str | None = None, hint: str | None = None) -> None:
        self.problem = problem
        self.expected = expected
        self.hint = hint
        parts = [problem.rstrip(".") + "."]
        if expected:
            parts.append(f"Expected: {expected.rstrip('.')}.")
        if hint:
            parts.append(f"Next: {hint}")
        super().__init__(" ".join(parts))


class SettingsError(PlatformError):
    """A setting is missing, malformed or contradicts the home it is used on."""


class InputError(PlatformError):
    """An argument, a path or a file the caller gave can't be used."""


class SourceError(PlatformError):
    """The CRM can't be reached, or lacks a table, a column or any row."""


class ContractError(PlatformError):
    """Data breaks its table's contract; nothing was published."""


class StorageError(PlatformError):
    """A table, the catalog or the disk can't be read or written."""


class ConflictError(StorageError):
    """Another run changed the table since the rows were computed; nothing was published, the same again will do."""


class QueryError(PlatformError):
    """SQL that is not one SELECT over known tables."""


class NotEnoughDataError(PlatformError):
    """Too little history: no matured label, one class only, nothing to score."""


class ModelError(PlatformError):
    """No such model or version, or one that must not be loaded."""
