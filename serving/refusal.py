"""Telling people that the registry's Production version is not served, and that it is over.

Does not belong here: whether a version is refused (`mlops_platform.inference_pipeline.current`), how people are told
(`mlops_platform.monitoring.alerts`).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from mlops_platform.monitoring.alerts import AlertManager

if TYPE_CHECKING:
    from mlops_platform.inference_pipeline.current import CurrentModel
    from mlops_platform.settings import Settings

ALERT_TYPE = "model_refused"


class RefusalAlert:
    """Sends one alert a refused version, and one notice when another is served in its place.

    Args:
        settings: The home: its channels.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._told: str | None = None

    def look(self, current: CurrentModel) -> threading.Thread | None:
        """Tells what has changed since the last look, in a thread: mail servers are slow, and the next look is due."""
        refused = current.refused
        subject = None if refused is None else f"version {refused.version}, run {refused.run_id}"
        if subject == self._told:
            return None
        before, self._told = self._told, subject
        telling = threading.Thread(target=self._tell, args=(subject, current.problem, before), daemon=True)
        telling.start()
        return telling

    def _tell(self, subject: str | None, problem: str | None, before: str | None) -> None:
        manager = AlertManager(settings=self._settings)
        if before is not None:
            manager.resolve(ALERT_TYPE, subject=before)
        if subject is not None:
            manager.send_alert(ALERT_TYPE, problem or subject, "error", subject=subject)
