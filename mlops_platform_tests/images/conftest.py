"""The tests of the images run by `make test-images` alone: each image takes minutes and gigabytes."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("IMAGE_PROOFS") == "1" else ["test_*.py"]
