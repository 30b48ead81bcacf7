"""Settings from arguments, the environment, secrets' files and the home's `mlops.toml`, in this order of precedence.

Does not belong here: which settings there are (`declaration.py`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from mlops_platform.errors import SettingsError
from mlops_platform.settings.declaration import Settings, environment_name
from mlops_platform.settings.home_file import read_home_file
from mlops_platform.settings.masking import mask_secrets
from mlops_platform.settings.profiles import require_complete

Source = Literal["default", "environment", "file", "mlops.toml", "argument"]


def load_settings(**arguments: Any) -> Settings:
    """Reads arguments, the environment, the files of the secrets' folder and the home's `mlops.toml`.

    Args:
        **arguments: Settings by field name; None means not given.

    Raises:
        SettingsError: A value is malformed, the profile needs one that is missing, or a file can't be read.
    """
    given = {key: value for key, value in arguments.items() if value is not None}
    settings = _validated(given)
    pinned = read_home_file(settings.home)
    unset = {key: value for key, value in pinned.items() if key not in settings.model_fields_set}
    settings = _validated(given | unset) if unset else settings
    require_complete(settings)
    return settings


def setting_sources(settings: Settings, **arguments: Any) -> dict[str, tuple[str, Source]]:
    """Each setting's value, secrets masked, and where it came from."""
    pinned = read_home_file(settings.home)
    # Where neither an argument nor a variable is left, what is set without the home's file came from a secret's.
    places = {"home": settings.home, "secrets_dir": settings.secrets_dir}
    in_files = _validated(places).model_fields_set - places.keys()
    found: dict[str, tuple[str, Source]] = {}
    for name in Settings.model_fields:
        source: Source = "default"
        if arguments.get(name) is not None:
            source = "argument"
        elif os.environ.get(environment_name(name)):
            source = "environment"
        elif name in in_files:
            source = "file"
        elif name in pinned:
            source = "mlops.toml"
        found[name] = (mask_secrets(str(getattr(settings, name))), source)
    return found


def _validated(values: dict[str, Any]) -> Settings:
    renamed = {environment_name(k) if k.startswith("mlflow_") else k: value for k, value in values.items()}
    folder = values.get("secrets_dir") or os.environ.get(environment_name("secrets_dir")) or None
    _require_folder(folder)
    try:
        return Settings(_secrets_dir=folder, **renamed)
    except OSError as error:
        raise SettingsError(
            f"a file of {environment_name('secrets_dir')} can't be read: {error}", hint="mend its permissions."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "settings"
        name = environment_name(field) if field in Settings.model_fields else field
        inside = f" ({'.'.join(map(str, first['loc'][1:]))})" if len(first["loc"]) > 1 else ""
        raise SettingsError(
            f"{name}{inside} is {mask_secrets(repr(first.get('input')))}: {first['msg']}",
            hint=f"correct or unset {name}; `mlops settings` then prints every setting and where it came from.",
        ) from error


def _require_folder(folder: Path | str | None) -> None:
    """Refuses a folder of secrets that is none, or can't be read: pydantic-settings would only warn."""
    try:
        if folder:
            next(Path(folder).expanduser().iterdir(), None)
    except OSError as error:
        name = environment_name("secrets_dir")
        raise SettingsError(
            f"{name} is {str(folder)!r}: {error.strerror}",
            expected="a folder of files named like variables in lower case, such as mlops_catalog_url",
            hint=f"correct or unset {name}.",
        ) from error
