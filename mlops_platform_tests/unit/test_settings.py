"""Settings: where a value comes from, what a bad one says, what is pinned, and that no secret is shown."""

from __future__ import annotations

import os
from datetime import date
from pathlib import Path

import pydantic
import pytest

from mlops_platform.errors import SettingsError
from mlops_platform.settings import (
    HOME_FILE,
    Settings,
    apply_exports,
    child_environment,
    exports,
    load_settings,
    mask_secrets,
    pin,
    setting_sources,
)

PINNED = 'history_start = 2019-05-01\ncrm_url = "sqlite:///pinned.db"\nhorizon_days = 5\n'


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A home folder that is there already."""
    return tmp_path


class TestPrecedence:
    def test_defaults(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        settings = load_settings()
        assert settings.home == tmp_path / ".mlops"
        assert (settings.timezone, settings.horizon_days, settings.population_days) == ("UTC", 90, 365)
        assert (settings.crm_url, settings.as_of, settings.history_start) == (None, None, None)
        assert settings.engine == "duckdb"

    def test_an_argument_beats_the_environment_which_beats_the_file(
        self, monkeypatch: pytest.MonkeyPatch, made: Path
    ) -> None:
        (made / HOME_FILE).write_text(PINNED)
        assert load_settings(home=made).crm_url == "sqlite:///pinned.db"
        monkeypatch.setenv("MLOPS_CRM_URL", "sqlite:///environment.db")
        assert load_settings(home=made).crm_url == "sqlite:///environment.db"
        assert load_settings(home=made, crm_url="sqlite:///argument.db").crm_url == "sqlite:///argument.db"
        # An argument that was not given leaves the others in force.
        assert load_settings(home=made, crm_url=None).crm_url == "sqlite:///environment.db"

    def test_the_file_only_sets_what_may_be_pinned(self, made: Path) -> None:
        (made / HOME_FILE).write_text(PINNED)
        settings = load_settings(home=made)
        assert settings.history_start == settings.first_partition_day == date(2019, 5, 1)
        assert settings.horizon_days == 90

    def test_the_home_of_the_environment_has_its_file_read(self, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
        (made / HOME_FILE).write_text(PINNED)
        monkeypatch.setenv("MLOPS_HOME", str(made))
        assert load_settings().crm_url == "sqlite:///pinned.db"

    def test_an_empty_variable_is_none(self, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
        monkeypatch.setenv("MLOPS_HORIZON_DAYS", "")
        assert load_settings(home=made).horizon_days == 90

    def test_mlflows_own_variable(self, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
        assert load_settings(home=made).tracking_uri == f"sqlite:///{made}/mlflow.db"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
        assert load_settings(home=made).tracking_uri == "http://127.0.0.1:5000"
        assert load_settings(home=made, mlflow_tracking_uri="http://other").tracking_uri == "http://other"

    def test_sources(self, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
        (made / HOME_FILE).write_text(PINNED)
        monkeypatch.setenv("MLOPS_TIMEZONE", "America/Sao_Paulo")
        arguments = {"home": made, "as_of": date(2024, 1, 1), "timezone": None}
        sources = setting_sources(load_settings(**arguments), **arguments)
        assert sources["home"] == (str(made), "argument")
        assert sources["as_of"] == ("2024-01-01", "argument")
        assert sources["timezone"] == ("America/Sao_Paulo", "environment")
        assert sources["crm_url"] == ("sqlite:///pinned.db", "mlops.toml")
        assert sources["horizon_days"] == ("90", "default")
        assert sources.keys() == Settings.model_fields.keys()

    def test_an_empty_variable_is_no_source(self, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
        monkeypatch.setenv("MLOPS_HORIZON_DAYS", "")
        assert setting_sources(load_settings(home=made))["horizon_days"] == ("90", "default")


class TestValues:
    @pytest.mark.parametrize("text", ["none", "None", " ALL "])
    def test_population_none_is_everybody(self, monkeypatch: pytest.MonkeyPatch, made: Path, text: str) -> None:
        monkeypatch.setenv("MLOPS_POPULATION_DAYS", text)
        assert load_settings(home=made).population_days is None
        assert load_settings(home=made, population_days=text).population_days is None

    def test_population_in_days(self, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
        monkeypatch.setenv("MLOPS_POPULATION_DAYS", "180")
        assert load_settings(home=made).population_days == 180

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("HORIZON_DAYS", "0"),
            ("HORIZON_DAYS", "ninety"),
            ("POPULATION_DAYS", "0"),
            ("POPULATION_DAYS", "some"),
            ("TIMEZONE", "Mars/Olympus"),
            ("TIMEZONE", "America"),
            ("TIMEZONE", "../etc/localtime"),
            ("AS_OF", "31.12.2024"),
            ("AS_OF", "2024-02-30"),
            ("HISTORY_START", "soon"),
            ("MAX_REJECTED_SHARE", "1.1"),
            ("DRIFT_THRESHOLD", "0"),
            ("MEMORY_LIMIT_MB", "64"),
            ("INGEST_OVERLAP_DAYS", "-1"),
            ("ENGINE", "Spark"),
            ("ENGINE", "polars"),
            ("ORCHESTRATOR", "cron"),
        ],
    )
    def test_a_bad_value_names_its_variable(
        self, monkeypatch: pytest.MonkeyPatch, made: Path, name: str, value: str
    ) -> None:
        monkeypatch.setenv(f"MLOPS_{name}", value)
        with pytest.raises(SettingsError, match=f"MLOPS_{name} is '{value}'.*mlops settings"):
            load_settings(home=made)

    def test_a_bad_argument_names_the_variable_too(self, made: Path) -> None:
        with pytest.raises(SettingsError, match="MLOPS_HORIZON_DAYS"):
            load_settings(home=made, horizon_days=0)

    def test_paths_are_absolute_and_inside_the_home(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert load_settings(home="a/b").home == tmp_path / "a/b"
        assert load_settings(home="~/c").home == tmp_path / "c"
        settings = load_settings(home="a/b")
        inside = [settings.warehouse, settings.dagster_home, settings.mlflow_artifacts, settings.reports]
        assert all(path.is_relative_to(settings.home) for path in [*inside, settings.prediction_spool])

    def test_settings_are_frozen(self, home: Settings) -> None:
        with pytest.raises(pydantic.ValidationError):
            home.horizon_days = 5  # type: ignore[misc]

    def test_reading_settings_makes_no_folder(self, home: Settings) -> None:
        assert not home.home.exists()


class TestHomeFile:
    def test_pin_is_read_by_the_next_process(self, made: Path) -> None:
        pinned = pin(load_settings(home=made), history_start=date(2020, 2, 29), crm_url='sqlite:///it\'s "mine".db')
        assert (pinned.history_start, pinned.crm_url) == (date(2020, 2, 29), 'sqlite:///it\'s "mine".db')
        assert load_settings(home=made) == pinned

    def test_history_only_grows_towards_the_past(self, made: Path) -> None:
        settings = pin(load_settings(home=made), history_start=date(2020, 1, 1))
        assert pin(settings, history_start=date(2021, 1, 1)).history_start == date(2020, 1, 1)
        assert pin(settings, history_start=date(2019, 1, 1)).history_start == date(2019, 1, 1)
        assert load_settings(home=made).history_start == date(2019, 1, 1)

    def test_one_value_leaves_the_other(self, made: Path) -> None:
        settings = pin(load_settings(home=made), history_start=date(2020, 1, 1), crm_url="sqlite:///a.db")
        pin(settings, crm_url="sqlite:///b.db")
        found = load_settings(home=made)
        assert (found.history_start, found.crm_url) == (date(2020, 1, 1), "sqlite:///b.db")

    def test_nothing_new_is_not_written(self, made: Path) -> None:
        settings = pin(load_settings(home=made), history_start=date(2020, 1, 1))
        written = (made / HOME_FILE).stat().st_ino
        pin(settings, history_start=date(2020, 1, 1))
        pin(settings)
        assert (made / HOME_FILE).stat().st_ino == written
        assert [path.name for path in made.iterdir()] == [HOME_FILE]

    def test_a_password_is_used_but_not_written(self, made: Path) -> None:
        secret = "postgresql://ana:hunter2@host/crm"  # noqa: S105 - what must not be written
        assert pin(load_settings(home=made), crm_url=secret, history_start=date(2020, 1, 1)).crm_url == secret
        assert "hunter2" not in (made / HOME_FILE).read_text()
        assert load_settings(home=made).crm_url is None

    @pytest.mark.parametrize("text", ["crm_url = ", "[[[", "crm_url = 'a'\ncrm_url = 'b'"])
    def test_a_broken_file_is_named(self, made: Path, text: str) -> None:
        (made / HOME_FILE).write_text(text)
        with pytest.raises(SettingsError, match=r"mlops\.toml can't be read"):
            load_settings(home=made)

    def test_a_file_in_another_encoding_is_named(self, made: Path) -> None:
        (made / HOME_FILE).write_bytes("crm_url = 'sqlite:///é.db'".encode("latin-1"))
        with pytest.raises(SettingsError, match=r"mlops\.toml can't be read"):
            load_settings(home=made)

    def test_pinning_makes_the_home(self, home: Settings) -> None:
        pin(home, history_start=date(2020, 1, 1))
        assert load_settings(home=home.home).history_start == date(2020, 1, 1)

    def test_a_start_written_as_text_can_be_pinned_again(self, made: Path) -> None:
        (made / HOME_FILE).write_text('history_start = "2020-01-01"')
        settings = load_settings(home=made)
        assert settings.history_start == date(2020, 1, 1)
        assert pin(settings, history_start=date(2019, 1, 1)).history_start == date(2019, 1, 1)


class TestSources:
    MAPPED = """[sources.shop] # the web shop
url = "postgresql://ana:hunter2@host/shop"
tables.transactions = "sales"

[sources.shop.tables.customers]
name = "kunden"
columns = { customer_id = "kunden_nr" }
"""

    def test_from_the_homes_file(self, made: Path) -> None:
        (made / HOME_FILE).write_text(self.MAPPED)
        shop = load_settings(home=made).sources["shop"]
        assert shop.url == "postgresql://ana:hunter2@host/shop"
        assert (shop.tables["customers"].name, shop.tables["customers"].columns) == (
            "kunden",
            {"customer_id": "kunden_nr"},
        )
        assert (shop.tables["transactions"].name, shop.tables["transactions"].columns) == ("sales", {})

    def test_the_environment_has_json(self, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
        (made / HOME_FILE).write_text(self.MAPPED)
        monkeypatch.setenv("MLOPS_SOURCES", '{"web": "sqlite:///web.db", "erp": {"url": "sqlite:///erp.db"}}')
        found = load_settings(home=made).sources
        assert {name: source.url for name, source in found.items()} == {
            "web": "sqlite:///web.db",
            "erp": "sqlite:///erp.db",
        }

    @pytest.mark.parametrize(
        "text", ["sqlite:///a.db", '["a"]', '{"a": {"url": 1}}', '{"a": {"urls": "b"}}', '{"a": {']
    )
    def test_anything_else_is_refused(self, monkeypatch: pytest.MonkeyPatch, made: Path, text: str) -> None:
        monkeypatch.setenv("MLOPS_SOURCES", text)
        with pytest.raises(SettingsError, match="MLOPS_SOURCES"):
            load_settings(home=made)

    def test_an_unknown_table_is_named_without_the_password(self, made: Path) -> None:
        (made / HOME_FILE).write_text(self.MAPPED.replace("tables.transactions", "tables.orders"))
        with pytest.raises(SettingsError, match=r"MLOPS_SOURCES \(shop\.tables\.orders") as refused:
            load_settings(home=made)
        assert "hunter2" not in str(refused.value)

    def test_passwords_are_not_listed(self, made: Path) -> None:
        (made / HOME_FILE).write_text(self.MAPPED)
        value, origin = setting_sources(load_settings(home=made), home=made)["sources"]
        assert origin == "mlops.toml"
        assert "postgresql://ana:***@host/shop" in value
        assert "hunter2" not in value

    def test_pinning_leaves_the_file_as_a_person_wrote_it(self, made: Path) -> None:
        (made / HOME_FILE).write_text(self.MAPPED)
        pin(load_settings(home=made), crm_url="sqlite:///a.db")
        assert load_settings(home=made).crm_url == "sqlite:///a.db"
        assert (made / HOME_FILE).read_text().endswith(self.MAPPED)


class TestSecrets:
    @pytest.mark.parametrize(
        ("text", "masked"),
        [
            ("postgresql://ana:hunter2@host:5432/crm", "postgresql://ana:***@host:5432/crm"),
            ("postgresql://ana:p:w/d@host/crm", "postgresql://ana:***@host/crm"),
            ("redis://:hunter2@host", "redis://:***@host"),
            ("from a://b:c@d to e://f:g@h", "from a://b:***@d to e://f:***@h"),
            ("postgresql://ana@host/crm", "postgresql://ana@host/crm"),
            ("sqlite:////a/b.db", "sqlite:////a/b.db"),
            ("mailto ana@example.com: hi", "mailto ana@example.com: hi"),
        ],
    )
    def test_passwords_are_masked(self, text: str, masked: str) -> None:
        assert mask_secrets(text) == masked

    @pytest.mark.parametrize(
        "text", ["postgresql://host/crm?user=ana&password=hunter2", "postgresql://ana:with@hunter2@host/crm"]
    )
    def test_passwords_elsewhere_are_masked(self, text: str) -> None:
        assert "hunter2" not in mask_secrets(text)

    def test_a_password_in_the_query_is_not_pinned(self, made: Path) -> None:
        pin(load_settings(home=made), crm_url="postgresql://host/crm?user=ana&password=hunter2")
        assert not (made / HOME_FILE).exists()

    def test_the_list_of_settings_shows_none(self, made: Path) -> None:
        settings = load_settings(home=made, crm_url="postgresql://ana:hunter2@host/crm")
        assert setting_sources(settings)["crm_url"][0] == "postgresql://ana:***@host/crm"


class TestExports:
    def test_they_point_at_the_home(self, made: Path) -> None:
        settings = load_settings(home=made, timezone="America/Sao_Paulo", crm_url="sqlite:///a.db")
        found = exports(settings)
        assert found["MLOPS_HOME"] == str(made)
        assert found["DAGSTER_HOME"] == str(made / "dagster")
        assert found["MLFLOW_TRACKING_URI"] == settings.tracking_uri
        assert found["MLOPS_CRM_URL"] == "sqlite:///a.db"
        assert "MLOPS_CRM_URL" not in exports(load_settings(home=made))

    def test_a_child_reads_the_same_settings(self, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
        settings = load_settings(home=made, timezone="America/Sao_Paulo", crm_url="sqlite:///a.db")
        for name, value in child_environment(settings, EXTRA="1").items():
            monkeypatch.setenv(name, value)
        child = load_settings()
        assert (child.home, child.timezone, child.crm_url) == (settings.home, settings.timezone, settings.crm_url)
        assert os.environ["EXTRA"] == "1"

    def test_applying_them_keeps_the_crms_address_out(self, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
        monkeypatch.setattr(os, "environ", {})
        apply_exports(load_settings(home=made, crm_url="postgresql://ana:hunter2@host/crm"))
        assert os.environ["MLOPS_HOME"] == str(made)
        assert not any("hunter2" in value for value in os.environ.values())


class TestFeaturesModule:
    def test_a_home_may_name_its_module(self, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
        (made / HOME_FILE).write_text('features_module = "shop.features"\n')
        settings = load_settings(home=made)
        assert settings.features_module == "shop.features"
        assert setting_sources(settings)["features_module"] == ("shop.features", "mlops.toml")
        monkeypatch.setenv("MLOPS_FEATURES_MODULE", "others")
        assert load_settings(home=made).features_module == "others"

    def test_children_get_it_and_this_process_does_not(self, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
        settings = load_settings(home=made, features_module="shop.features")
        assert child_environment(settings)["MLOPS_FEATURES_MODULE"] == "shop.features"
        assert "MLOPS_FEATURES_MODULE" not in exports(load_settings(home=made))
        with monkeypatch.context() as patch:
            for name in exports(settings):
                patch.setenv(name, os.environ.get(name, ""))
            patch.delenv("MLOPS_FEATURES_MODULE")
            apply_exports(settings)
            # Another home of this process may have another.
            assert "MLOPS_FEATURES_MODULE" not in os.environ


SERVER = {
    "profile": "server",
    "catalog_url": "postgresql://ana:hunter2@host/mlops",
    "warehouse_url": "s3://bucket/lake",
    "dagster_storage_url": "postgresql://ana:hunter2@host/dagster",
    "mlflow_tracking_uri": "http://host:5000",
}


class TestProfiles:
    def test_the_server_has_all_it_needs(self, made: Path) -> None:
        settings = load_settings(home=made, **SERVER)
        assert (settings.profile, settings.catalog_uri) == ("server", "postgresql+psycopg2://ana:hunter2@host/mlops")

    def test_everything_that_is_missing_is_named_at_once(self, made: Path) -> None:
        with pytest.raises(SettingsError) as refused:
            load_settings(home=made, profile="server")
        for name in ("CATALOG_URL", "WAREHOUSE_URL", "DAGSTER_STORAGE_URL"):
            assert f"MLOPS_{name}=" in str(refused.value)
        assert "MLFLOW_TRACKING_URI=http" in str(refused.value)

    @pytest.mark.parametrize("name", ["catalog_url", "warehouse_url", "dagster_storage_url", "mlflow_tracking_uri"])
    def test_one_that_is_missing(self, made: Path, name: str) -> None:
        with pytest.raises(SettingsError) as refused:
            load_settings(home=made, **SERVER | {name: None})
        assert str(refused.value).count("=") == 1

    def test_mlflows_database_is_no_server(self, made: Path) -> None:
        with pytest.raises(SettingsError, match="lacks MLFLOW_TRACKING_URI"):
            load_settings(home=made, **SERVER | {"mlflow_tracking_uri": "postgresql://host/mlflow"})

    def test_on_aws_the_catalog_is_glue(self, made: Path) -> None:
        assert load_settings(home=made, **SERVER | {"profile": "aws", "catalog_url": None}).catalog_url is None
        with pytest.raises(SettingsError, match="profile aws lacks MLOPS_WAREHOUSE_URL, MLOPS_DAGSTER_STORAGE_URL, ML"):
            load_settings(home=made, profile="aws")
        with pytest.raises(
            SettingsError, match="MLOPS_CATALOG_URL is set, and the profile aws keeps its catalog in Gl"
        ):
            load_settings(home=made, **SERVER | {"profile": "aws"})

    @pytest.mark.parametrize("same", ["postgresql://host/mlops", "postgresql+psycopg2://bob@host:5432/mlops?a=b"])
    def test_dagster_has_a_database_of_its_own(self, made: Path, same: str) -> None:
        with pytest.raises(SettingsError, match="name the same database"):
            load_settings(home=made, **SERVER | {"dagster_storage_url": same})

    def test_an_unknown_profile(self, made: Path) -> None:
        with pytest.raises(SettingsError, match=r"MLOPS_PROFILE is 'cloud'.*'embedded', 'server' or 'aws'"):
            load_settings(home=made, profile="cloud")

    def test_dagsters_database_is_postgresql(self, made: Path) -> None:
        with pytest.raises(SettingsError, match=r"MLOPS_DAGSTER_STORAGE_URL is 'mysql://a:\*\*\*@h/d'"):
            load_settings(home=made, dagster_storage_url="mysql://a:hunter2@h/d")

    def test_a_child_has_the_profile_and_names_the_driver(self, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
        settings = load_settings(home=made, **SERVER)
        for name, value in child_environment(settings).items():
            monkeypatch.setenv(name, value)
        # Dagster hands it to SQLAlchemy as it is.
        assert os.environ["MLOPS_DAGSTER_STORAGE_URL"] == "postgresql+psycopg2://ana:hunter2@host/dagster"
        child = load_settings()
        assert all(getattr(child, name) == value for name, value in SERVER.items())

    def test_this_process_keeps_them_to_itself(self, monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
        monkeypatch.setattr(os, "environ", {})
        apply_exports(load_settings(home=made, **SERVER))
        assert not any("hunter2" in value for value in os.environ.values())
        # Another home of this process may be an embedded one.
        assert load_settings(home=made / "other").profile == "embedded"


class TestSecretsFromFiles:
    @pytest.fixture
    def secrets(self, tmp_path: Path) -> Path:
        folder = tmp_path / "secrets"
        folder.mkdir()
        (folder / "mlops_catalog_url").write_text("postgresql://ana:hunter2@host/mlops\n")
        (folder / "mlops_api_token").write_text("token\n")
        (folder / "mlflow_backend_store_uri").write_text("postgresql://ana:hunter2@host/mlflow")
        return folder

    def test_they_are_read(self, monkeypatch: pytest.MonkeyPatch, made: Path, secrets: Path) -> None:
        monkeypatch.setenv("MLOPS_SECRETS_DIR", str(secrets))
        settings = load_settings(home=made)
        assert settings.catalog_url == "postgresql://ana:hunter2@host/mlops"
        assert settings.api_token is not None
        assert settings.api_token.get_secret_value() == "token"
        assert load_settings(home=made, secrets_dir=secrets) == settings

    def test_the_environment_goes_first_and_they_before_the_homes_file(
        self, monkeypatch: pytest.MonkeyPatch, made: Path, secrets: Path
    ) -> None:
        (made / HOME_FILE).write_text(PINNED)
        (secrets / "mlops_crm_url").write_text("sqlite:///secret.db")
        monkeypatch.setenv("MLOPS_CATALOG_URL", "postgresql://environment/mlops")
        settings = load_settings(home=made, secrets_dir=secrets)
        assert (settings.catalog_url, settings.crm_url) == ("postgresql://environment/mlops", "sqlite:///secret.db")

    def test_the_list_names_them_and_shows_no_secret(self, made: Path, secrets: Path) -> None:
        found = setting_sources(load_settings(home=made, secrets_dir=secrets))
        assert found["catalog_url"] == ("postgresql://ana:***@host/mlops", "file")
        assert found["api_token"][1] == found["mlflow_backend_store_uri"][1] == "file"
        assert not any("token" in value or "hunter2" in value for value, _ in found.values())

    def test_an_empty_file_is_none(self, made: Path, secrets: Path) -> None:
        (made / HOME_FILE).write_text(PINNED)
        for name in ("mlops_crm_url", "mlops_smtp_url"):
            (secrets / name).write_text("\n")
        settings = load_settings(home=made, secrets_dir=secrets)
        assert (settings.crm_url, settings.smtp_url) == ("sqlite:///pinned.db", None)
        found = setting_sources(settings, home=made)
        assert (found["crm_url"][1], found["smtp_url"]) == ("mlops.toml", ("None", "default"))
        assert found["home"] == (str(made), "argument")

    def test_a_child_finds_them_too(self, made: Path, secrets: Path) -> None:
        found = exports(load_settings(home=made, secrets_dir=secrets))
        assert found["MLOPS_SECRETS_DIR"] == str(secrets)
        assert found["MLFLOW_BACKEND_STORE_URI"] == "postgresql+psycopg2://ana:hunter2@host/mlflow"

    def test_a_folder_that_is_missing_or_none(self, made: Path, secrets: Path) -> None:
        with pytest.raises(SettingsError, match=r"MLOPS_SECRETS_DIR is '.*nowhere': No such file"):
            load_settings(home=made, secrets_dir=secrets / "nowhere")
        with pytest.raises(SettingsError, match=r"MLOPS_SECRETS_DIR is .*Not a directory"):
            load_settings(home=made, secrets_dir=secrets / "mlops_api_token")

    def test_what_is_wrong_in_one_shows_no_password(self, made: Path, secrets: Path) -> None:
        (secrets / "mlops_catalog_url").write_text("mysql://ana:hunter2@host/mlops")
        with pytest.raises(SettingsError, match="MLOPS_CATALOG_URL") as refused:
            load_settings(home=made, secrets_dir=secrets)
        assert "hunter2" not in str(refused.value)
