"""Settings: the only part that reads the environment.

Belongs here: every setting (`declaration.py`), reading them, the home's paths, and what other processes are told.
Does not belong here: opening anything, the clock.
"""

from mlops_platform.settings.declaration import ENV_PREFIX, Settings
from mlops_platform.settings.drivers import with_driver, without_driver
from mlops_platform.settings.environment import apply_exports, child_environment, exports, variable_kept
from mlops_platform.settings.home_file import HOME_FILE, HOME_FILE_HEAD, pin
from mlops_platform.settings.loading import load_settings, setting_sources
from mlops_platform.settings.masking import mask_secrets
from mlops_platform.settings.places import DEFAULT_HISTORY_START

__all__ = [
    "DEFAULT_HISTORY_START",
    "ENV_PREFIX",
    "HOME_FILE",
    "HOME_FILE_HEAD",
    "Settings",
    "apply_exports",
    "child_environment",
    "exports",
    "load_settings",
    "mask_secrets",
    "pin",
    "setting_sources",
    "variable_kept",
    "with_driver",
    "without_driver",
]
