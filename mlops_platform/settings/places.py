"""Where a home's things are, which follows from its settings.

Does not belong here: settings themselves (`declaration.py`), making any of the places.
"""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path
from zoneinfo import ZoneInfo

from mlops_platform.settings.drivers import with_driver

# A home that has never ingested has no history yet; Dagster still needs a first day for its partitions.
DEFAULT_HISTORY_START = date(2020, 1, 1)

# A store that is restarted is waited for; one that is gone, or accepts and never answers, is not waited for for ever.
S3_PATIENCE = {
    "s3.connect-timeout": "5",
    "s3.request-timeout": "10",
    "s3.retry-strategy-impl": "mlops_platform.storage.outage.S3Retries",
}


class Places:
    """What `Settings` says beside its fields."""

    home: Path
    timezone: str
    history_start: date | None
    catalog_url: str | None
    warehouse_url: str | None
    mlflow_tracking_uri: str | None

    @property
    def zone(self) -> ZoneInfo:
        """The business time zone."""
        return ZoneInfo(self.timezone)

    @property
    def catalog_uri(self) -> str:
        """SQLAlchemy address of the Iceberg catalog."""
        # Writers of other tables commit to the same SQLite file: they wait for each other instead of failing.
        if self.catalog_url is None:
            return f"sqlite:///{self.home / 'catalog.db'}?timeout=60"
        return with_driver(self.catalog_url)

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
        return {**S3_PATIENCE, **{key: value for key, value in found.items() if value}} if self.warehouse_url else {}

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
