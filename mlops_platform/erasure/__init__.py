"""Erasing customers on request: out of the tables, their history, the logs and reports of a home, and kept out.

Belongs here: finding and removing what is stored about a customer, and proving that nothing is left. Does not belong
here: the CRM, where the customer has to be deleted by its owner; leaving erased customers out of later ingestions
(`data_pipeline/erased.py`).
"""

from mlops_platform.erasure.erase import ErasureReport, erase, preview
from mlops_platform.erasure.scan import Hit, verify

__all__ = ["ErasureReport", "Hit", "erase", "preview", "verify"]
