"""What sensors know of runs: which are under way, for how long one may be, and what they are for.

Names and limits only; what is asked for, and when, is decided where it is asked.
"""

import datetime as dt

import dagster as dg

LONGEST_RUN = dt.timedelta(hours=6)
"""A run that was started before and never ended is taken for one that was killed."""

IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
REASON = "mlops_assets/reason"
"""Tag of a run that says why it was started."""

STATE = "mlops_assets/stale_state"
"""Tag of a run: what was stale when it was asked for."""
