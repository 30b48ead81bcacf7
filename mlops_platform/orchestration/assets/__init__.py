"""The assets, one module a pipeline. A body calls one domain function and attaches metadata.

These modules do not postpone annotations: Dagster reads them when an asset is made.
"""
