"""Dagster: assets, checks, IO managers, partitions, jobs, schedules, sensors, and what drives them (demo, doctor, up).

With `definitions.py` the only place that imports dagster. An asset's body calls one domain function and attaches
metadata; logic belongs to the pipelines.
"""
