"""The Optuna study: in a SQLite file of the home, seeded, and taken up where a killed process left it.

Belongs here: opening it, the sampler and pruner, one trial's states. Does not belong here: what a trial computes
(`tuning.py`), MLflow (`tuning_runs.py`).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import StorageError
from mlops_platform.training_pipeline.cross_validation import PARTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from optuna import Study
    from optuna.storages import RDBStorage
    from optuna.trial import FrozenTrial, Trial, TrialState

    from mlops_platform.settings import Settings

STUDIES = "optuna.db"
LOCK_SECONDS = 10


@dataclass(frozen=True, slots=True)
class TrialCounts:
    """A study's trials by how they ended: complete, pruned (worse than the median), failed (or killed)."""

    complete: int
    pruned: int
    failed: int


@contextmanager
def open_study(settings: Settings, name: str) -> Iterator[Study]:
    """The study of that name, made on first use; it is this process's alone until the block ends.

    Trials that a killed process left running are marked as failed.

    Raises:
        StorageError: Another process has it open, or the file is locked or damaged.
    """
    import optuna
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    path = settings.home / STUDIES
    with _alone(settings, name), _silent():
        try:
            study = optuna.create_study(
                storage=_storage(path), study_name=name, direction="maximize", load_if_exists=True, pruner=_pruner()
            )
            for trial in _in_state(study, optuna.trial.TrialState.RUNNING):
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            yield study
        except (SQLAlchemyError, StorageInternalError) as error:
            raise _unusable(path, error) from error


def run_trial(study: Study, objective: Callable[[Trial], float], *, first: Mapping[str, Any], seed: int) -> FrozenTrial:
    """One more trial.

    What it tries depends on the seed, the number of trials that ended and their scores, and on nothing else: a study
    that was interrupted goes on to the same trials as one that was not.

    Args:
        study: The study.
        objective: Gives a score, or raises TrialPruned.
        first: The values of a study's first trial.
        seed: Of the study.
    """
    import numpy as np
    import optuna
    from optuna.trial import TrialState

    done = len(ended(study))
    # A sampler seeded once would begin anew in a process that takes the study up.
    study.sampler = optuna.samplers.TPESampler(seed=int(np.random.SeedSequence([seed, done]).generate_state(1)[0]))
    if not done and not _in_state(study, TrialState.WAITING):
        study.enqueue_trial(dict(first))
    trial = study.ask()
    try:
        score = objective(trial)
    except optuna.TrialPruned:
        return study.tell(trial, state=TrialState.PRUNED)
    except BaseException:
        study.tell(trial, state=TrialState.FAIL)
        raise
    return study.tell(trial, score)


def ended(study: Study) -> list[FrozenTrial]:
    """The trials that a budget counts: complete or pruned, in the order they began."""
    from optuna.trial import TrialState

    return _in_state(study, TrialState.COMPLETE, TrialState.PRUNED)


def complete(study: Study) -> list[FrozenTrial]:
    """The trials that have a score, in the order they began."""
    from optuna.trial import TrialState

    return _in_state(study, TrialState.COMPLETE)


def count(study: Study) -> TrialCounts:
    """The trials by how they ended."""
    from optuna.trial import TrialState

    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    return TrialCounts(*(len(_in_state(study, state)) for state in states))


def _in_state(study: Study, *states: TrialState) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=states)


def _pruner() -> Any:
    from optuna.pruners import MedianPruner

    # The first half of the first part says little: slow learners have not got anywhere yet.
    return MedianPruner(n_startup_trials=5, n_warmup_steps=PARTS // 2)


def _storage(path: Path) -> RDBStorage:
    from optuna.storages import RDBStorage
    from sqlalchemy.pool import NullPool

    # Optuna fills the address as a format string.
    address = f"sqlite:///{path}".replace("{", "{{").replace("}", "}}")
    # Without a pool no connection stays open when a study is done with.
    options = {"connect_args": {"timeout": LOCK_SECONDS}, "poolclass": NullPool}
    try:
        return RDBStorage(address, engine_kwargs=options)
    except RuntimeError as error:  # The file is of another version of Optuna.
        raise _unusable(path, error) from error


@contextmanager
def _alone(settings: Settings, name: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    folder = settings.home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"tuning-{name}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise StorageError(
            f"another process is tuning {name}", expected="one at a time", hint="wait for it to end, or stop it."
        ) from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _silent() -> Iterator[None]:
    """Optuna tells of every trial on stderr, with a handler of its own."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _unusable(path: Path, error: Exception) -> StorageError:
    cause = getattr(error.__cause__ or error, "orig", None) or error
    return StorageError(
        f"the studies in {path} can't be used: {str(cause).splitlines()[0]}",
        hint=f"stop what holds it, or move {path.name} away: tuning then begins anew, runs and models stay.",
    )
