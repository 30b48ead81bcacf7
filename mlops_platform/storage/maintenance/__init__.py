"""Table maintenance: old snapshots, small files, files that nothing refers to.

Belongs here: what may be taken away from a table and from the home without anyone missing it. Does not belong here:
when that happens (`orchestration/jobs.py`), what a publish does.
"""

from mlops_platform.storage.maintenance.expiry import KEEP_DAYS, referenced_snapshots
from mlops_platform.storage.maintenance.orphans import ORPHAN_DAYS
from mlops_platform.storage.maintenance.upkeep import TableUpkeep, maintain

__all__ = ["KEEP_DAYS", "ORPHAN_DAYS", "TableUpkeep", "maintain", "referenced_snapshots"]
