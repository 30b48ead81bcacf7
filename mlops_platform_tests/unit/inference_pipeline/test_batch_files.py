"""Where a batch may write, and where not."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_platform.errors import InputError
from mlops_platform.inference_pipeline.batch_files import input_file, output_file
from mlops_platform.settings import Settings, load_settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    made = load_settings(home=tmp_path / "home")
    made.warehouse.mkdir(parents=True)
    return made


class TestOutput:
    @pytest.mark.parametrize(
        ("path", "relative"),
        [
            ("ml/predictions/batch_20240115.parquet", "ml/predictions/batch_20240115.parquet"),
            ("./ml//x.parquet", "ml/x.parquet"),
            ("s3://any-bucket/ml/x.parquet", "ml/x.parquet"),
            ("x.parquet", "x.parquet"),
            ("ml/predictions/data.parquet", "ml/predictions/data.parquet"),
            ("ano novo/é=1 %20.parquet", "ano novo/é=1 %20.parquet"),
        ],
    )
    def test_a_path_is_below_the_warehouse(self, settings: Settings, path: str, relative: str) -> None:
        found = output_file(settings, path)
        assert found.address == str(settings.warehouse / relative)
        assert output_file(settings, found.address) == found
        assert output_file(settings, Path(found.address)) == found
        assert found.not_scored.address == found.address.removesuffix(".parquet") + ".not_scored.parquet"

    @pytest.mark.parametrize(
        "path",
        [
            "../x.parquet",
            "ml/../../x.parquet",
            "/etc/x.parquet",
            "s3://bucket/../x.parquet",
            "ml/../x.parquet",
            "{warehouse}/../x.parquet",
            "{warehouse}-other/x.parquet",
        ],
    )
    def test_none_leads_out_of_it(self, settings: Settings, path: str) -> None:
        with pytest.raises(InputError, match="leads out of the warehouse"):
            output_file(settings, path.format(warehouse=settings.warehouse))

    def test_nor_does_a_link(self, settings: Settings, tmp_path: Path) -> None:
        (settings.warehouse / "ml").symlink_to(tmp_path)
        with pytest.raises(InputError, match="leads out of the warehouse"):
            output_file(settings, "ml/x.parquet")

    @pytest.mark.parametrize("path", ["x.csv", "", ".parquet", "ml/.parquet", "ml/predictions/", "x.parquet/"])
    def test_it_names_a_parquet_file(self, settings: Settings, path: str) -> None:
        with pytest.raises(InputError, match=r"ends in \.parquet"):
            output_file(settings, path)

    @pytest.mark.parametrize("sign", ["\x00", "\n", "\x1b[2J", "\u202e", "*", "?", "[", "{", "\\", "\u2028"])
    def test_signs_that_mean_something_else(self, settings: Settings, sign: str) -> None:
        with pytest.raises(InputError, match="printable characters") as caught:
            output_file(settings, f"ml/{sign}.parquet")
        assert str(caught.value).isprintable()

    @pytest.mark.parametrize(
        "path", ["ml/predictions/data/x.parquet", "feature_store/customer_features/metadata/x.parquet"]
    )
    def test_a_tables_own_files_are_no_place(self, settings: Settings, path: str) -> None:
        with pytest.raises(InputError, match="among the files of the table"):
            output_file(settings, path)

    def test_a_folder_is_no_file(self, settings: Settings) -> None:
        (settings.warehouse / "x.parquet").mkdir()
        with pytest.raises(InputError, match="is a folder"):
            output_file(settings, "x.parquet")

    def test_in_a_bucket_it_is_the_warehouses(self, settings: Settings) -> None:
        lake = settings.model_copy(update={"warehouse_url": "s3://shop/lake"})
        for path in ("ml/x.parquet", "s3://shop/lake/ml/x.parquet", "s3a://shop/ml/x.parquet", "/ml/x.parquet"):
            assert output_file(lake, path).address == "s3://shop/lake/ml/x.parquet"
        with pytest.raises(InputError, match=r"lies in the bucket other.*shop"):
            output_file(lake, "s3://other/ml/x.parquet")


class TestInput:
    def test_a_file_is_below_the_warehouse_or_of_this_machine(self, settings: Settings, tmp_path: Path) -> None:
        for folder in (settings.warehouse, tmp_path):
            (folder / "x.parquet").touch()
            assert input_file(settings, folder / "x.parquet") == str(folder / "x.parquet")
        assert input_file(settings, "x.parquet") == str(settings.warehouse / "x.parquet")
        assert input_file(settings, "s3://bucket/x.parquet") == str(settings.warehouse / "x.parquet")

    @pytest.mark.parametrize("path", ["missing.parquet", "/no/missing.parquet", "../missing.parquet"])
    def test_one_that_is_nowhere(self, settings: Settings, path: str) -> None:
        with pytest.raises(InputError, match="there is no file"):
            input_file(settings, path)
