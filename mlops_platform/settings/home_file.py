"""`mlops.toml`, the small file in the home that pins what must not change between its processes.

Belongs here: where history starts and which CRMs feed the home. Does not belong here: other settings.
"""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import SettingsError
from mlops_platform.settings.masking import mask_secrets

if TYPE_CHECKING:
    from mlops_platform.settings.declaration import Settings

HOME_FILE = "mlops.toml"
# What of the settings a home's file may hold; the last two only a person writes there.
_IN_HOME_FILE = {"history_start", "crm_url", "sources", "features_module"}
HOME_FILE_HEAD = "# Written by mlops: what every process of this home must agree on.\n"


def pin(settings: Settings, *, history_start: date | None = None, crm_url: str | None = None) -> Settings:
    """Writes what must stay the same for every process of this home to `mlops.toml`; returns the settings with it.

    History only ever grows towards the past: an earlier start replaces a later one. A CRM address that carries a
    password is not written.
    """
    import tomlkit

    pinned = read_home_file(settings.home)
    wanted = dict(pinned)
    if history_start is not None:
        wanted["history_start"] = min(settings.history_start or history_start, history_start)
    if crm_url is not None and mask_secrets(crm_url) == crm_url:
        wanted["crm_url"] = crm_url
    if wanted != pinned:
        path = settings.home / HOME_FILE
        settings.home.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.tmp")
        document = tomlkit.parse(path.read_text(encoding="utf-8") if path.is_file() else HOME_FILE_HEAD)
        document.update({key: value for key, value in wanted.items() if value != pinned.get(key)})
        draft.write_text(tomlkit.dumps(document), encoding="utf-8")
        draft.replace(path)
    update: dict[str, Any] = {"history_start": wanted.get("history_start", settings.history_start)}
    if crm_url is not None:
        update["crm_url"] = crm_url
    return settings.model_copy(update=update)


def read_home_file(home: Path) -> dict[str, Any]:
    """What the home's file pins; nothing where there is none.

    Raises:
        SettingsError: The file can't be read.
    """
    import tomllib

    path = home / HOME_FILE
    if not path.is_file():
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} can't be read: {error}", hint=f"mend or remove {path}.") from error
    return {key: value for key, value in found.items() if key in _IN_HOME_FILE}
