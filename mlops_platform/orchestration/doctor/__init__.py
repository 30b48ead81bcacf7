"""`mlops doctor`: is everything there, and which command mends what is not.

Every look stands alone: it is bounded in time, and one that fails says so in a finding. Belongs here: looking. Does not
belong here: mending.
"""

from mlops_platform.orchestration.doctor.examine import examine
from mlops_platform.orchestration.doctor.finding import Finding

__all__ = ["Finding", "examine"]
