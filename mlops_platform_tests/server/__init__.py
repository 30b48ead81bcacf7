"""The server profile on a real PostgreSQL and a real S3-protocol server; `make test-server` runs these tests.

Does not belong here: what runs on the embedded home as well.
"""
