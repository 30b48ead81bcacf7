"""The proof: an id is found wherever it can stand, and not in what only looks like it."""

from __future__ import annotations

import gzip
import sqlite3
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_platform.contracts import BRONZE_TRANSACTIONS, ERASURES
from mlops_platform.erasure import Hit, verify
from mlops_platform.erasure.subjects import Subjects
from mlops_platform.settings import Settings
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.pseudonym import KEY_FILE, customer_hmac
from mlops_platform_tests.unit.erasure.lakes import build, publish


@pytest.fixture
def folder(home: Settings) -> Path:
    home.home.mkdir()
    return home.home


def found(home: Settings, *ids: str) -> list[str]:
    return [f"{Path(hit.path).name}: {hit.where}" for hit in verify(home, ids)]


def test_an_id_is_a_whole_word(home: Settings, folder: Path) -> None:
    (folder / "near.txt").write_text("C10 xC1 C1x C_1 c1 C1_ éC1")
    assert found(home, "C1") == []
    (folder / "there.txt").write_text("C10, (C1)")
    assert found(home, "C1") == ["there.txt: byte 6"]


def test_a_number_stands_alone(home: Settings, folder: Path) -> None:
    (folder / "near.txt").write_text("2024-01-17 0.17 17.5 1.17.2 b-17 v17 170")
    (folder / "near.json").write_text('{"rows": 17, "share": 0.17}')
    assert found(home, "17") == []
    (folder / "there.log").write_text("customer 17.")
    (folder / "there.json").write_text('{"rows": [{"customer_id": 17}]}')
    assert found(home, "17") == ["there.json: JSON", "there.log: byte 9"]


def test_parquet_columns_dictionaries_and_statistics(home: Settings, folder: Path) -> None:
    unused = pa.DictionaryArray.from_arrays(pa.array([0, 0]), pa.array(["other", "C1"]))
    pq.write_table(pa.table({"a": ["C1", "x"], "n": [1, 2]}), folder / "plain.parquet", use_dictionary=False)
    pq.write_table(pa.table({"d": unused}), folder / "unused.parquet", write_statistics=False)
    assert found(home, "C1") == [
        "plain.parquet: column a",
        "plain.parquet: statistics of a",
        "unused.parquet: column d",
    ]
    assert found(home, "1") == []


def test_json_in_a_column_is_read(home: Settings, folder: Path) -> None:
    rows = ['{"customer_id":"C1","n":5}', '{"customer_id":"C2","n":5}']
    pq.write_table(pa.table({"row": rows}), folder / "rows.parquet", write_statistics=False)
    assert found(home, "C1") == ["rows.parquet: column row"]
    assert found(home, "5") == []


def test_tables_and_their_metadata(lake: Lake) -> None:
    build(lake, ["C1", "C2", "C3", "C4"], [BRONZE_TRANSACTIONS])
    kinds = {hit.where for hit in verify(lake.settings, ["C1"])}
    assert kinds == {"column customer_id", "statistics of customer_id", "record"}
    assert verify(lake.settings, ["C5"]) == []


def test_sqlite_columns(home: Settings, folder: Path) -> None:
    with sqlite3.connect(folder / "events.db") as database:
        database.execute("CREATE TABLE logs (id INTEGER, body TEXT, bytes BLOB)")
        database.execute("INSERT INTO logs VALUES (17, 'materialized C1', x'4331'), (1, 'C10', NULL)")
    database.close()
    assert found(home, "C1") == ["events.db: table logs, column body", "events.db: table logs, column bytes"]
    assert found(home, "17") == []


def test_compressed_files(home: Settings, folder: Path) -> None:
    with gzip.open(folder / "old.log.gz", "wt") as file:
        file.write("row of C1\n")
    with zipfile.ZipFile(folder / "model.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", "C1 " * 100)
    assert found(home, "C1") == ["model.skops: member schema.json", "old.log.gz: compressed text"]


@pytest.mark.parametrize("head", [b"PAR1", b"Obj\x01", b"SQLite format 3\x00", b"\x1f\x8b", b"PK\x03\x04"])
def test_a_damaged_file_is_searched_all_the_same(home: Settings, folder: Path, head: bytes) -> None:
    (folder / "damaged").write_bytes(head + b"...." + b"aC1b" * 3)
    assert found(home, "C1") == ["damaged: a damaged file"]


def test_the_list_of_the_erased_is_no_hit(lake: Lake) -> None:
    name = customer_hmac(lake.settings, "C1")
    publish(lake, ERASURES, [{"customer_hmac": name}])
    assert verify(lake.settings, ["C1"]) == []
    (lake.settings.home / "left.log").write_text(name)
    assert verify(lake.settings, ["C1"]) == [Hit(str(lake.settings.home / "left.log"), "byte 0")]
    assert (lake.settings.home / KEY_FILE).exists()


def test_thousands_of_ids_are_one_expression(home: Settings) -> None:
    ids = [f"customer-{n:05}" for n in range(20_000)]
    subjects = Subjects.of(home, ids)
    for name in ids[::997]:
        assert subjects.are_in(f"<{name}>".encode())
        assert not subjects.are_in(f"<{name}9>".encode())
    assert subjects.replaced("customer-00007, customer-000070", "x") == "x, customer-000070"
