"""What each profile can't do without.

Does not belong here: which settings there are (`declaration.py`).
"""

from __future__ import annotations

from urllib.parse import urlsplit

from mlops_platform.errors import SettingsError
from mlops_platform.settings.declaration import Settings, environment_name

_EXAMPLES = {
    "catalog_url": "postgresql://user:password@host/mlops",
    "warehouse_url": "s3://bucket/folder",
    "dagster_storage_url": "postgresql://user:password@host/dagster",
    "mlflow_tracking_uri": "http://host:5000",
}
NEEDED: dict[str, tuple[str, ...]] = {
    "embedded": (),
    "server": ("catalog_url", "warehouse_url", "dagster_storage_url", "mlflow_tracking_uri"),
    # The catalog is Glue.
    "aws": ("warehouse_url", "dagster_storage_url", "mlflow_tracking_uri"),
}


def require_complete(settings: Settings) -> None:
    """Refuses settings that don't do for their profile.

    Raises:
        SettingsError: One that names every setting that is missing, the one that the profile has no use for, or two
            databases that may not be one.
    """
    lacking = [name for name in NEEDED[settings.profile] if not _is_there(settings, name)]
    if lacking:
        names = [environment_name(name) for name in lacking]
        raise SettingsError(
            f"the profile {settings.profile} lacks {', '.join(names)}",
            expected=", ".join(f"{environment_name(name)}={_EXAMPLES[name]}" for name in lacking),
            hint="set each as a variable, or as a file in the folder MLOPS_SECRETS_DIR; see docs/server.md.",
        )
    if settings.profile == "aws" and settings.catalog_url is not None:
        raise SettingsError(
            "MLOPS_CATALOG_URL is set, and the profile aws keeps its catalog in Glue",
            expected="no MLOPS_CATALOG_URL in this profile",
            hint="unset it, or choose the profile server.",
        )
    if settings.dagster_storage_url and _database(settings.dagster_storage_url) == _database(settings.catalog_url):
        raise SettingsError(
            "MLOPS_DAGSTER_STORAGE_URL and MLOPS_CATALOG_URL name the same database",
            expected="a database of Dagster's own, since others keep tables of the same names",
            hint=f"set MLOPS_DAGSTER_STORAGE_URL={_EXAMPLES['dagster_storage_url']}.",
        )


def _is_there(settings: Settings, name: str) -> bool:
    value = getattr(settings, name)
    # A database in place of the server would need its password on every machine, and no artifact could be reached.
    return bool(value) and (name != "mlflow_tracking_uri" or value.startswith(("http://", "https://")))


def _database(url: str | None) -> tuple[str | None, int, str]:
    parts = urlsplit(url or "")
    return parts.hostname, parts.port or 5432, parts.path.strip("/")
