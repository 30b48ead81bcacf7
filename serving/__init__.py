"""Online serving: the BentoML service that answers from the Production model.

Belongs here: HTTP, metrics, the watcher thread. Does not belong here: scoring, validation rules, the prediction log
(`mlops_platform.inference_pipeline`); nothing of Dagster.
"""
