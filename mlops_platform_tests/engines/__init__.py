"""Every engine that computes features, against the oracle and against each other.

Does not belong here: how one engine works inside (`unit/feature_pipeline`, `properties`).
"""
