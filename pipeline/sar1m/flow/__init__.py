"""Work items over Dask. Nothing else of the program imports Dask.

`workers` runs items, `cluster` keeps hold of the scheduler and its workers while they run, `waiting` says aloud what is
waited for, and for how long.
"""

from sar1m.flow.cluster import WorkersSettings
from sar1m.flow.workers import Outcome, Workers

__all__ = ["Outcome", "Workers", "WorkersSettings"]
