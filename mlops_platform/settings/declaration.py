"""Every setting with its meaning and its default, which is the embedded profile's.

Does not belong here: where values come from (`loading.py`), what follows from them (`places.py`), what a profile needs
(`profiles.py`).
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mlops_platform.settings.drivers import without_driver
from mlops_platform.settings.places import Places
from mlops_platform.source_settings import SourceSetting, decoded

ENV_PREFIX = "MLOPS_"


class Settings(Places, BaseSettings):
    """Frozen settings of one home. Environment variables carry the prefix `MLOPS_`."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    home: Path = Field(Path(".mlops"), description="Folder that holds everything the platform writes.")
    profile: Literal["embedded", "server", "aws"] = Field(
        "embedded", description="Where the platform runs: embedded, server (PostgreSQL and S3) or aws (Glue and S3)."
    )
    secrets_dir: Path | None = Field(
        None, description="Folder of files that hold settings, each named like its variable in lower case."
    )
    crm_url: str | None = Field(None, description="CRM database: sqlite:///file.db or postgresql://…")
    sources: Annotated[dict[str, SourceSetting], NoDecode] = Field(
        default_factory=dict, description="Named sources: URL, and the CRM's own names of tables and columns."
    )
    as_of: date | None = Field(None, description="The last complete local day, in place of the clock's.")
    timezone: str = Field("UTC", description="Business time zone that turns timestamps into days.")
    horizon_days: int = Field(90, ge=1, le=730, description="Days without a purchase that make a customer churned.")
    population_days: Annotated[int | None, NoDecode] = Field(
        365, description="Customers with a purchase in this many days are trained on and scored; none: every customer."
    )
    model_name: str = Field("customer_churn_model", description="Name in the MLflow registry.")
    experiment_name: str = Field("production_training", description="MLflow experiment of training runs.")
    history_start: date | None = Field(
        None, description="First local day of the CRM's history; written at first ingest."
    )
    ingest_overlap_days: int = Field(2, ge=1, description="Days before the watermark that ingestion reads again.")
    deletions: Literal["compare", "ignore"] = Field(
        "compare", description="Deletions in a CRM table without deleted_at: compare its keys with bronze's, or ignore."
    )
    max_deleted_share: float = Field(
        0.1, ge=0, le=1, description="Share of a table's keys that may vanish from the CRM at once; more is an error."
    )
    max_rejected_share: float = Field(0.1, ge=0, le=1, description="Quarantined share of a batch that blocks silver.")
    keep_personal: bool = Field(False, description="Whether silver.customers keeps names and e-mail addresses.")
    features_module: str | None = Field(
        None, description="Python module whose FEATURES are added to the standard features, such as my_features."
    )
    engine: Literal["duckdb", "spark", "trino", "athena"] = Field(
        "duckdb", description="What computes features: duckdb, spark (extra `spark`, and Java), trino or athena."
    )
    spark_jars: str | None = Field(
        None, description="Iceberg's jars for a Spark started here, separated by commas; a session's own are enough."
    )
    trino_url: str | None = Field(
        None, description="Trino, for the engine trino: trino://user@host:8080/catalog, or trino+https://…"
    )
    athena_workgroup: str = Field("primary", description="Athena's workgroup, for the engine athena.")
    athena_results_url: str | None = Field(
        None, description="Where Athena puts results: s3://bucket/folder; default: the workgroup's own place."
    )
    drift_threshold: float = Field(
        0.05, gt=0, lt=1, description="Family-wise significance level of the drift decision."
    )
    orchestrator: Literal["dagster", "airflow"] = Field(
        "dagster", description="Whose schedules start training and batch inference; ingestion stays Dagster's."
    )
    airflow_home: Path | None = Field(
        None, validation_alias="AIRFLOW_HOME", description="Airflow's own folder, for `mlops doctor`; none: no Airflow."
    )
    dagster_url: str = Field("http://127.0.0.1:3001", description="Address of Dagster's UI, for links to a run.")
    reports_url: str = Field(
        "http://127.0.0.1:9101/reports",
        description="Where `mlops metrics serve` shows drift reports, for links to them.",
    )
    memory_limit_mb: int = Field(768, ge=128, description="Memory that DuckDB or Spark may use in one process, in MB.")
    catalog_url: str | None = Field(
        None, description="Iceberg catalog: postgresql://user@host/database; default: SQLite in the home."
    )
    warehouse_url: str | None = Field(
        None, description="Where the tables' files lie: s3://bucket/folder; default: a folder of the home."
    )
    dagster_storage_url: str | None = Field(
        None, description="Dagster's runs and events: postgresql://user@host/database; default: SQLite in the home."
    )
    mlflow_tracking_uri: str | None = Field(
        None, validation_alias="MLFLOW_TRACKING_URI", description="MLflow server; default: SQLite in the home."
    )
    mlflow_backend_store_uri: SecretStr | None = Field(
        None,
        validation_alias="MLFLOW_BACKEND_STORE_URI",
        description="Database of the MLflow server that `mlops exec -- mlflow server` starts; nothing else needs it.",
    )
    hmac_key: SecretStr | None = Field(
        None, description="Key of the hashes that stand for customers; default: a file in the home."
    )
    # Checked where it is used: the message about a malformed setting shows what was given.
    api_token: SecretStr | None = Field(
        None, description="Bearer token of the service's callers; needed when it listens on more than loopback."
    )
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Names, besides loopback's, that browsers may use for the service, the metrics and Dagster."
    )
    redis_url: SecretStr | None = Field(
        None, description="Redis for the online store, shared by several services; none: a file in the home."
    )
    serving_concurrency: int = Field(
        64, ge=1, description="Requests that a worker of the service scores at once; more are answered with 503."
    )
    serving_rate: float | None = Field(
        None, gt=0, description="Requests a second that a worker of the service scores; more are answered with 429."
    )
    online_store_days: int = Field(
        2, ge=1, description="Age in days of the online store's features from which on they count as stale."
    )

    alert_channels: Annotated[tuple[Literal["email", "slack", "log"], ...], NoDecode] = Field(
        (), description="Where alerts are told: email, slack, log, separated by commas; default: log."
    )
    # Checked where they are used: the message about a malformed setting shows what was given.
    smtp_url: SecretStr | None = Field(
        None, description="Mail server of alerts: smtp://user:password@host:587, or smtps://…:465."
    )
    alert_email_to: str | None = Field(None, description="Who gets alerts by e-mail, separated by commas.")
    alert_email_from: str = Field("mlops@localhost", description="Sender of alerts by e-mail.")
    slack_webhook_url: SecretStr | None = Field(None, description="Slack's incoming webhook for alerts.")
    alert_reminder_hours: float = Field(
        24, ge=1, description="Hours before an alert that was told is told again; until then it is only counted."
    )
    alert_hourly_limit: int = Field(
        60, ge=1, description="Messages an hour that go to e-mail, and to Slack; more wait for the next hour."
    )
    retrain_on_drift: bool = Field(False, description="Whether drift starts the training pipeline.")
    retrain_cooldown_days: float = Field(7, gt=0, description="Days between two trainings that drift started.")

    @model_validator(mode="before")
    @classmethod
    def _empty_is_unset(cls, values: dict[str, Any]) -> dict[str, Any]:
        # Containers mount a file for every secret, whether or not somebody has filled it in.
        return {name: value for name, value in values.items() if value != ""}

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        found = value.expanduser().absolute()
        if any(sign in str(found) for sign in "%#?"):
            raise ValueError("must not contain %, # or ?, which mean something else in a table's file addresses")
        return found

    @field_validator("sources", mode="before")
    @classmethod
    def _json(cls, value: Any) -> Any:
        return decoded(value)

    @field_validator("alert_channels", "allowed_hosts", mode="before")
    @classmethod
    def _separated(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @field_validator("allowed_hosts")
    @classmethod
    def _names_of_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [name for name in value if not re.fullmatch(r"[A-Za-z0-9_.-]+", name)]:
            raise ValueError(f"{wrong[0]!r} is no host's name; names come without scheme and port, such as ml.example")
        return tuple(name.lower() for name in value)

    @field_validator("population_days", mode="before")
    @classmethod
    def _none_is_everybody(cls, value: Any) -> Any:
        return None if isinstance(value, str) and value.strip().lower() in {"none", "all"} else value

    @field_validator("population_days")
    @classmethod
    def _positive(cls, value: int | None) -> int | None:
        if value is not None and value < 1:
            raise ValueError("must be at least 1, or none")
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"{value!r} is no time zone; an example is America/Sao_Paulo") from error
        return value

    @field_validator("features_module")
    @classmethod
    def _module_name(cls, value: str | None) -> str | None:
        parts = value.split(".") if value is not None else []
        if not all(part.isidentifier() for part in parts) or "py" in parts[1:]:
            raise ValueError("must be a module's name, such as my_features or shop.features, and no file's")
        return value

    @field_validator("catalog_url", "dagster_storage_url")
    @classmethod
    def _is_postgresql(cls, value: str | None) -> str | None:
        plain = without_driver(value) if value is not None else None
        if plain is not None and not plain.startswith("postgresql://"):
            raise ValueError("must be a postgresql:// address, or unset")
        return plain

    @field_validator("warehouse_url")
    @classmethod
    def _known_warehouse(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"s3://[^/\s]+(/[^\s]*)?", value):
            raise ValueError("must be an s3://bucket/folder address, or unset")
        return value.rstrip("/") if value else None


def environment_name(field: str) -> str:
    """The variable of a setting."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else ENV_PREFIX + field.upper()
