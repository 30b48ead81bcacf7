"""Settings: the only module that reads the environment.

Belongs here: every setting with its meaning and embedded default, the home's paths, and `mlops.toml`, the small file in
the home that pins what must not change between processes (where history starts, which CRMs feed this home).
Does not belong here: opening anything, the clock.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from mlops_platform.errors import SettingsError
from mlops_platform.source_settings import SourceSetting, decoded

ENV_PREFIX = "MLOPS_"
HOME_FILE = "mlops.toml"
# What of the settings a home's file may hold; the last two only a person writes there.
_IN_HOME_FILE = {"history_start", "crm_url", "sources", "features_module"}
HOME_FILE_HEAD = "# Written by mlops: what every process of this home must agree on.\n"
# A home that has never ingested has no history yet; Dagster still needs a first day for its partitions.
DEFAULT_HISTORY_START = date(2020, 1, 1)

Source = Literal["default", "environment", "mlops.toml", "argument"]


class Settings(BaseSettings):
    """Frozen settings of one home. Environment variables carry the prefix `MLOPS_`."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    home: Path = Field(Path(".mlops"), description="Folder that holds everything the platform writes.")
    profile: Literal["embedded", "server", "aws"] = Field(
        "embedded", description="Where the platform runs: embedded, server (PostgreSQL and S3) or aws (Glue and S3)."
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
    hmac_key: SecretStr | None = Field(
        None, description="Key of the hashes that stand for customers; default: a file in the home."
    )
    # Checked where it is used: the message about a malformed setting shows what was given.
    api_token: SecretStr | None = Field(
        None, description="Bearer token of the service's callers; needed when it listens on more than loopback."
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

    @field_validator("alert_channels", mode="before")
    @classmethod
    def _separated(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

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

    @property
    def zone(self) -> ZoneInfo:
        """The business time zone."""
        return ZoneInfo(self.timezone)

    @field_validator("catalog_url")
    @classmethod
    def _known_catalog(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("postgresql://"):
            raise ValueError("must be a postgresql:// address, or unset")
        return value

    @field_validator("warehouse_url")
    @classmethod
    def _known_warehouse(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"s3://[^/\s]+(/[^\s]*)?", value):
            raise ValueError("must be an s3://bucket/folder address, or unset")
        return value.rstrip("/") if value else None

    @property
    def catalog_uri(self) -> str:
        """SQLAlchemy address of the Iceberg catalog."""
        # Writers of other tables commit to the same SQLite file: they wait for each other instead of failing.
        if self.catalog_url is None:
            return f"sqlite:///{self.home / 'catalog.db'}?timeout=60"
        return self.catalog_url.replace("postgresql://", "postgresql+psycopg2://", 1)

    @property
    def warehouse_location(self) -> str:
        """Address of the tables' files."""
        return self.warehouse_url or f"file://{self.warehouse}"

    @property
    def file_properties(self) -> dict[str, str]:
        """How PyIceberg reaches the warehouse's files: the ecosystem's own AWS variables."""
        names = {
            "s3.endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
            "s3.region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
        }
        found = {key: next((os.environ[n] for n in of if os.environ.get(n)), "") for key, of in names.items()}
        return {key: value for key, value in found.items() if value} if self.warehouse_url else {}

    @property
    def warehouse(self) -> Path:
        """Folder of the Iceberg tables."""
        return self.home / "warehouse"

    @property
    def dagster_home(self) -> Path:
        """DAGSTER_HOME of this home's instance."""
        return self.home / "dagster"

    @property
    def tracking_uri(self) -> str:
        """MLflow tracking and registry address."""
        return self.mlflow_tracking_uri or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def mlflow_artifacts(self) -> Path:
        """Folder of MLflow's artifacts."""
        return self.home / "mlflow-artifacts"

    @property
    def reports(self) -> Path:
        """Folder of the HTML reports."""
        return self.home / "reports"

    @property
    def prediction_spool(self) -> Path:
        """Folder where the service appends its prediction log."""
        return self.home / "prediction-log"

    @property
    def alert_state(self) -> Path:
        """Which alerts are open, and what became of each message."""
        return self.home / "alerts.db"

    @property
    def online_store(self) -> Path:
        """The service's copy of every customer's latest features; it can be made again, so no backup holds it."""
        return self.home / "cache" / "online-store.db"

    @property
    def demo_crm_url(self) -> str:
        """CRM that `mlops demo` seeds when none is given."""
        return f"sqlite:///{self.home / 'crm.db'}"

    @property
    def first_partition_day(self) -> date:
        """First day of the daily partitions."""
        return self.history_start or DEFAULT_HISTORY_START


def load_settings(**arguments: Any) -> Settings:
    """Reads arguments, the environment and the home's `mlops.toml`, in this order of precedence.

    Args:
        **arguments: Settings by field name; None means not given.

    Raises:
        SettingsError: A value is malformed, or `mlops.toml` can't be read.
    """
    given = {key: value for key, value in arguments.items() if value is not None}
    settings = _validated(given)
    pinned = _read_home_file(settings.home)
    unset = {key: value for key, value in pinned.items() if key not in settings.model_fields_set}
    return _validated(given | unset) if unset else settings


def setting_sources(settings: Settings, **arguments: Any) -> dict[str, tuple[str, Source]]:
    """Each setting's value, secrets masked, and where it came from."""
    pinned = _read_home_file(settings.home)
    found: dict[str, tuple[str, Source]] = {}
    for name in Settings.model_fields:
        source: Source = "default"
        if arguments.get(name) is not None:
            source = "argument"
        elif os.environ.get(_environment_name(name)):
            source = "environment"
        elif name in pinned:
            source = "mlops.toml"
        found[name] = (mask_secrets(str(getattr(settings, name))), source)
    return found


def pin(settings: Settings, *, history_start: date | None = None, crm_url: str | None = None) -> Settings:
    """Writes what must stay the same for every process of this home to `mlops.toml`; returns the settings with it.

    History only ever grows towards the past: an earlier start replaces a later one. A CRM address that carries a
    password is not written.
    """
    import tomlkit

    pinned = _read_home_file(settings.home)
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


def child_environment(settings: Settings, **extra: str) -> dict[str, str]:
    """This process's environment with the home's settings added, for a child process or `mlops env`."""
    return {**os.environ, **exports(settings), **extra}


def exports(settings: Settings) -> dict[str, str]:
    """Variables that point other tools (mlflow, dagster, bentoml) at this home."""
    found = {
        "MLOPS_HOME": str(settings.home),
        "MLOPS_TIMEZONE": settings.timezone,
        "DAGSTER_HOME": str(settings.dagster_home),
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "BENTOML_DO_NOT_TRACK": "True",
        "DO_NOT_TRACK": "1",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        # Threads that wait spin otherwise: a fit with two threads beside two busy processes took 12.8 s and not 1.9 s.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
        # BentoML keeps a service's metrics there: two homes must not share them.
        "BENTOML_HOME": str(settings.home / "bentoml"),
    }
    if settings.crm_url:
        found["MLOPS_CRM_URL"] = settings.crm_url
    if settings.features_module:
        found["MLOPS_FEATURES_MODULE"] = settings.features_module
    return found


def apply_exports(settings: Settings) -> None:
    """Sets `exports` in this process, so that libraries which read the environment themselves agree with us."""
    of_the_home = {"MLOPS_CRM_URL", "MLOPS_FEATURES_MODULE"}
    os.environ.update({key: value for key, value in exports(settings).items() if key not in of_the_home})


@contextmanager
def variable_kept(name: str) -> Iterator[None]:
    """An environment variable is afterwards what it was before, whatever a library sets it to."""
    before = os.environ.get(name)
    try:
        yield
    finally:
        os.environ.pop(name, None)
        if before is not None:
            os.environ[name] = before


def mask_secrets(text: str) -> str:
    """Replaces the password of every address in the text, before the host or among its parameters."""
    masked = re.sub(r"(?<=://)([^:/@\s]*):(\S*)@", r"\1:***@", text)
    return re.sub(r"([?&](?:password|passwd|pwd|sslpassword)=)[^&\s]*", r"\1***", masked, flags=re.IGNORECASE)


def _environment_name(field: str) -> str:
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else ENV_PREFIX + field.upper()


def _validated(values: dict[str, Any]) -> Settings:
    renamed = {("MLFLOW_TRACKING_URI" if key == "mlflow_tracking_uri" else key): v for key, v in values.items()}
    try:
        return Settings(**renamed)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "settings"
        name = _environment_name(field) if field in Settings.model_fields else field
        inside = f" ({'.'.join(map(str, first['loc'][1:]))})" if len(first["loc"]) > 1 else ""
        raise SettingsError(
            f"{name}{inside} is {mask_secrets(repr(first.get('input')))}: {first['msg']}",
            hint=f"correct or unset {name}; `mlops settings` then prints every setting and where it came from.",
        ) from error


def _read_home_file(home: Path) -> dict[str, Any]:
    import tomllib

    path = home / HOME_FILE
    if not path.is_file():
        return {}
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} can't be read: {error}", hint=f"mend or remove {path}.") from error
    return {key: value for key, value in found.items() if key in _IN_HOME_FILE}
