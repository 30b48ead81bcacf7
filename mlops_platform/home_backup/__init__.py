"""Backup and restore of a whole home in one archive, and its migration to a server.

Belongs here: what of a home is state, a consistent copy of it, the archive, and moving its absolute paths to another
place. SQLite files are treated as files: neither MLflow nor Dagster is imported, but by a migration, which needs MLflow
to make its tables on the server. Does not belong here: tables or models in any sense but their files and rows.
"""
