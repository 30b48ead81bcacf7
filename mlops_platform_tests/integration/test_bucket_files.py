"""A bucket's files as DuckDB reads them: several threads share one open file."""

from __future__ import annotations

import threading
from contextlib import closing

from mlops_platform.settings import Settings
from mlops_platform.storage.duck import bucket_files
from mlops_platform_tests.integration.buckets import Bucket


def test_each_thread_has_a_place_of_its_own(bucket: Bucket, home: Settings) -> None:
    bucket.write("lake/file", bytes(range(100)))
    files = bucket_files(home.model_copy(update={"warehouse_url": bucket.url}))
    with closing(files.open(f"{bucket.url}/file", "rb")) as file:
        assert file.seek(10) == 10
        found: list[bytes] = []

        def elsewhere() -> None:
            file.seek(90)
            found.append(file.read(5))

        other = threading.Thread(target=elsewhere)
        other.start()
        other.join()
        assert found == [bytes(range(90, 95))]
        assert file.read(2) == bytes([10, 11])
        assert file.tell() == 12
        assert file.seek(-2, 2) == 98
        assert file.read() == bytes([98, 99])
