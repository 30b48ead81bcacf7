"""Training pipeline: labels, dataset, models, evaluation, registry, promotion.

Belongs here: everything from a labelled row to a Production model. Does not belong here: computing features, scoring.
"""
