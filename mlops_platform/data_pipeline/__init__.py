"""Data pipeline: the CRM as a source (real, imported or synthetic), CRM to bronze, bronze to silver.

Does not belong here: features, labels, models.
"""
