"""Changing stages: the one way a version enters or leaves one; each change of Production is a row of ml.promotions.

The Production version is the one whose stage says so. A change of it is one transaction of MLflow's database and a
reader's look is one query, so a reader finds the version before or the one after, never none and never two; the alias
follows. Changes of one model wait for each other. A change is noted in the registry before it is made and recorded in
ml.promotions after: whoever comes next adds the row of a process that died in between, or of a change made elsewhere.
Does not belong here: whether a model deserves Production (`promotion.py`).
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlops_platform.contracts.ml import MANUAL, ROLLED_BACK, WITHDRAWN
from mlops_platform.errors import InputError, ModelError
from mlops_platform.storage.locks import table_lock
from mlops_platform.training_pipeline.history import PromotionHistory, decoded, draft, encoded, version_after
from mlops_platform.training_pipeline.registry import ARCHIVED, NO_STAGE, PRODUCTION, STAGING
from mlops_platform.training_pipeline.train import THRESHOLD_TAG, TRAINING_SNAPSHOT_TAG

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from mlops_platform.storage.lake import Lake
    from mlops_platform.training_pipeline.history import Row
    from mlops_platform.training_pipeline.registry import MLflowManager, RegisteredModel

STAGES = (NO_STAGE, STAGING, PRODUCTION, ARCHIVED)
CHANGE_TAG = "mlops.production-change"
MAX_REASON = 1_000


@contextmanager
def changing(manager: MLflowManager, lake: Lake, name: str, *, at: datetime) -> Iterator[PromotionHistory]:
    """Holds the model: no other process changes its stages meanwhile. Yields its history, complete.

    Args:
        manager: The registry.
        lake: Where ml.promotions is.
        name: The model.
        at: The present instant, for a row that has to be added.

    Raises:
        InputError: There is no such model.
        StorageError: Another process held it for ten minutes.
    """
    manager.require_versions(name)
    with table_lock(manager.settings, f"model.{name}"):
        yield _complete(manager, lake, name, at)


def change_production(manager: MLflowManager, model: RegisteredModel, stage: str, row: Row) -> RegisteredModel:
    """Moves a version into or out of Production; to be called within `changing`, the row is the caller's to publish.

    Args:
        manager: The registry.
        model: The version.
        stage: Where to.
        row: What ml.promotions is to say about it.
    """
    manager.client.set_registered_model_tag(model.name, CHANGE_TAG, encoded(row))
    return move(manager, model, stage)


def move(
    manager: MLflowManager, model: RegisteredModel, stage: str, *, archive_existing_versions: bool = False
) -> RegisteredModel:
    """Sets stage and alias of a version, without a row; to be called within `changing`."""
    with warnings.catch_warnings():
        # Stages are what the documented workflow uses; MLflow warns in favour of aliases, which are set beside.
        warnings.simplefilter("ignore", FutureWarning)
        manager.client.transition_model_version_stage(
            model.name,
            model.version,
            stage,
            # Two in Production would leave it to the reader which one is served.
            archive_existing_versions=archive_existing_versions or stage == PRODUCTION,
        )
    aliases = manager.client.get_registered_model(model.name).aliases
    for alias in (PRODUCTION.lower(), STAGING.lower()):
        if alias == stage.lower():
            manager.client.set_registered_model_alias(model.name, alias, model.version)
        elif str(aliases.get(alias)) == model.version:
            manager.client.delete_registered_model_alias(model.name, alias)
    return manager.version(model.name, model.version)


def transition(
    manager: MLflowManager,
    lake: Lake,
    name: str,
    version: str | int,
    stage: str,
    *,
    archive_existing_versions: bool,
    at: datetime,
) -> RegisteredModel:
    """The documented `transition_model_stage`: see `MLflowManager`."""
    wanted = _stage(stage, archive_existing_versions)
    manager.version(name, version)
    with changing(manager, lake, name, at=at) as history:
        model = manager.version(name, version)
        if (wanted == PRODUCTION) == (history.production == model.version):
            return move(manager, model, wanted, archive_existing_versions=archive_existing_versions)
        decision = MANUAL if wanted == PRODUCTION else WITHDRAWN
        row = history.change(model, decision, f"moved to {wanted} by transition_model_stage", at=at)
        moved = change_production(manager, model, wanted, row)
        lake.publish(draft(row))
        return moved


def promote(
    manager: MLflowManager, lake: Lake, name: str, version: str | int, *, at: datetime, reason: str | None = None
) -> Row | None:
    """Puts a version into Production because somebody says so.

    Args:
        manager: The registry.
        lake: Where ml.promotions is.
        name: The model.
        version: The version.
        at: When.
        reason: Why, in the person's words.

    Returns:
        The row of ml.promotions; None: it is in Production already.

    Raises:
        InputError: There is no such model or version, or the reason is too long.
        ModelError: The version can't serve.
    """
    why = _reason(reason) or "promoted by hand"
    require_servable(manager.version(name, version))
    with changing(manager, lake, name, at=at) as history:
        model = manager.version(name, version)
        if history.production == model.version:
            return None
        return _put_into_production(manager, lake, model, history.change(model, MANUAL, why, at=at))


def rollback(manager: MLflowManager, lake: Lake, name: str, *, at: datetime, reason: str | None = None) -> Row:
    """Puts the version back that was in Production before, as ml.promotions says; again: the one before that.

    A version that is registered no longer, or can't serve, is passed over.

    Args:
        manager: The registry.
        lake: Where ml.promotions is.
        name: The model.
        at: When.
        reason: Why, in the person's words.

    Returns:
        The row of ml.promotions.

    Raises:
        InputError: There is no such model, or the reason is too long.
        ModelError: No version was in Production before that can serve.
    """
    why = _reason(reason)
    with changing(manager, lake, name, at=at) as history:
        known = {model.version: model for model in manager.versions(name)}
        fit = [v for v in history.before if v in known and unfit_to_serve(known[v]) is None]
        if not fit:
            here = "no version" if history.production is None else f"version {history.production}"
            raise ModelError(
                f"{name} can't be rolled back: {here} is in Production, and none that was before can serve"
                if history.before
                else f"{name} can't be rolled back: {here} is in Production, and none was before",
                expected="a version that was in Production before and is still registered",
                hint="`mlops models list` shows the versions, `mlops models promote VERSION` puts one into Production.",
            )
        came_from = "" if history.production is None else f"back from version {history.production}"
        words = ": ".join(filter(None, [came_from, why])) or "rolled back by hand"
        model = known[fit[0]]
        return _put_into_production(manager, lake, model, history.change(model, ROLLED_BACK, words, at=at))


def complete_history(manager: MLflowManager, lake: Lake, name: str, *, at: datetime) -> PromotionHistory:
    """The model's history; rows that are missing are added first.

    Raises:
        InputError: There is no such model.
    """
    with changing(manager, lake, name, at=at) as history:
        return history


def unfit_to_serve(model: RegisteredModel) -> ModelError | None:
    """Why a version can't serve; None: it can, as far as the registry says."""
    if {THRESHOLD_TAG, TRAINING_SNAPSHOT_TAG} <= model.tags.keys():
        return None
    return ModelError(
        f"version {model.version} of {model.name} can't serve: it was not trained on ml.training_set, which "
        "drift is measured against",
        expected="a version that `mlops train` made",
        hint="put the version before back into Production, or run `mlops train`.",
    )


def require_servable(model: RegisteredModel) -> None:
    """Refuses a version that can't serve.

    Raises:
        ModelError: It was trained on rows of a query.
    """
    error = unfit_to_serve(model)
    if error is not None:
        raise error


def _put_into_production(manager: MLflowManager, lake: Lake, model: RegisteredModel, row: Row) -> Row:
    change_production(manager, model, PRODUCTION, row)
    lake.publish(draft(row))
    return row


def _complete(manager: MLflowManager, lake: Lake, name: str, at: datetime) -> PromotionHistory:
    history = PromotionHistory.read(lake, name)
    production = manager.in_stage(name, PRODUCTION)
    version = production.version if production is not None else None
    if version == history.production:
        return history
    row = _noted(manager, name)
    if row is None or history.holds(row) or version_after(row) != version:
        model = production or history.production_model()
        decision, where = (WITHDRAWN, "no longer") if production is None else (MANUAL, "found")
        row = history.change(model, decision, f"{where} in Production: changed past the platform", at=at)
    if production is not None:
        # Its process may have died before the alias followed.
        move(manager, production, PRODUCTION)
    lake.publish(draft(row))
    return history.with_row(row)


def _noted(manager: MLflowManager, name: str) -> Row | None:
    text = manager.client.get_registered_model(name).tags.get(CHANGE_TAG)
    return None if text is None else decoded(text)


def _stage(stage: str, archive_existing_versions: bool) -> str:
    found = {name.lower(): name for name in STAGES}.get(str(stage).lower())
    if found is None:
        raise InputError(f"there is no stage {stage!r}", expected=f"one of {', '.join(STAGES)}")
    if archive_existing_versions and found not in {STAGING, PRODUCTION}:
        raise InputError(
            f"archive_existing_versions has no meaning for the stage {found}", expected=f"{STAGING} or {PRODUCTION}"
        )
    return found


def _reason(reason: str | None) -> str:
    words = (reason or "").strip()
    if len(words) > MAX_REASON:
        raise InputError(f"the reason has {len(words):,} characters", expected=f"{MAX_REASON:,} at most")
    return words
