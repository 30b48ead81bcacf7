"""Inference pipeline: one scoring path for batch and online, batch predictions, the prediction log.

Belongs here: using a Production model. Does not belong here: making one, HTTP.
"""
