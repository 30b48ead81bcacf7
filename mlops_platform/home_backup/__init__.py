"""Backup and restore of a whole home: its tables, MLflow, Dagster's storage and the files beside them, in one archive.

Belongs here: what of a home is state, a consistent copy of it, the archive, and moving its absolute paths to another
place. SQLite files are treated as files: neither MLflow nor Dagster is imported. Does not belong here: tables or
models in any sense but their files.
"""
