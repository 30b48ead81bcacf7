"""The home's dagster.yaml: made, made anew where it is ours, kept where a person changed it; and what `up` starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_platform.errors import InputError, SettingsError, StorageError
from mlops_platform.orchestration import instance
from mlops_platform.orchestration.processes import services
from mlops_platform.settings import Settings, load_settings

NO_SERVER = "postgresql://ana:hunter2@127.0.0.1:9/dagster"


@pytest.fixture
def on_server(home: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The home with Dagster's runs in PostgreSQL, whose database is there."""
    monkeypatch.setattr(instance, "ensure_database", lambda url, variable: None)
    return home.model_copy(update={"dagster_storage_url": NO_SERVER})


def written(settings: Settings) -> Path:
    return settings.dagster_home / "dagster.yaml"


def test_the_storage_is_named_and_its_address_not_written(on_server: Settings) -> None:
    instance.prepare(on_server)
    text = written(on_server).read_text()
    assert "env: MLOPS_DAGSTER_STORAGE_URL" in text
    assert "hunter2" not in text


def test_a_file_of_ours_follows_the_settings(home: Settings, on_server: Settings) -> None:
    instance.prepare(home)
    embedded = written(home).read_text()
    assert "storage" not in embedded
    instance.prepare(on_server)
    assert "storage" in written(home).read_text()
    instance.prepare(home)
    assert written(home).read_text() == embedded
    assert [path.name for path in home.dagster_home.iterdir()] == ["dagster.yaml"]


@pytest.mark.parametrize("own", ["telemetry: {enabled: false}\n", "storage: {sqlite: {base_dir: /x}}\n", "[]"])
def test_a_persons_file_is_kept_and_told_where_it_contradicts(home: Settings, on_server: Settings, own: str) -> None:
    home.dagster_home.mkdir(parents=True)
    written(home).write_text(own)
    instance.prepare(home)
    with pytest.raises(SettingsError, match=r"dagster\.yaml keeps Dagster's runs elsewhere.*Next: "):
        instance.prepare(on_server)
    assert written(home).read_text() == own


def test_a_persons_file_with_the_same_storage(on_server: Settings) -> None:
    instance.prepare(on_server)
    own = written(on_server).read_text() + "retention: {schedule: {purge_after_days: 90}}\n"
    written(on_server).write_text(own)
    instance.prepare(on_server)
    assert written(on_server).read_text() == own


def test_a_file_that_is_no_yaml(on_server: Settings) -> None:
    on_server.dagster_home.mkdir(parents=True)
    written(on_server).write_text("storage: [")
    with pytest.raises(SettingsError, match="can't be read"):
        instance.prepare(on_server)


def test_the_missing_package_is_named(on_server: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"dagster-postgres.*mlops-platform\[server\]"):
        instance.prepare(on_server)


def test_a_server_that_is_not_there(home: Settings) -> None:
    with pytest.raises(StorageError, match=r"can't be reached.*MLOPS_DAGSTER_STORAGE_URL") as refused:
        instance.open_instance(home.model_copy(update={"dagster_storage_url": NO_SERVER}))
    assert "hunter2" not in str(refused.value)


def test_up_starts_no_mlflow_beside_an_mlflow_server(home: Settings) -> None:
    def names(settings: Settings) -> list[str]:
        return [service.name for service in services(settings, Path("workspace.yaml"))]

    assert "MLflow UI" in names(home)
    assert "MLflow UI" not in names(load_settings(home=home.home, mlflow_tracking_uri="http://127.0.0.1:5000"))


def test_no_address_stands_on_a_command_line(home: Settings) -> None:
    settings = load_settings(home=home.home, mlflow_tracking_uri="postgresql://ana:hunter2@host/mlflow")
    assert not any("hunter2" in " ".join(service.command) for service in services(settings, Path("workspace.yaml")))
