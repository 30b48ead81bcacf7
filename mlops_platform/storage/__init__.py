"""Iceberg storage: catalog, publish (audit, then one commit), read, query (SQL), maintenance. No Dagster.

Does not belong here: what the tables mean.
"""
