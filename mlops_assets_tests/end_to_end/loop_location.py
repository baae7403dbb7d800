"""Dagster's code location of the tests of the loop: its sensors tick each second.

Imported by the daemon's code server and by every run. The present is written in a file of the home,
so that days can pass while the processes go on.
"""

import datetime as dt

import dagster as dg

from mlops_assets.defs import automation
from mlops_assets.defs.build import build_definitions
from mlops_assets.defs.checks import aliases, rollout
from mlops_assets.defs.sensors import alerting, fresh_windows, retraining, stale_tables
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings
from mlops_assets_tests.end_to_end import loop_shop


@dg.resource
def platform() -> Platform:
    """The stores of the home, at the present that its file says."""
    settings = Settings()
    now = dt.datetime.fromisoformat((settings.root / loop_shop.NOW).read_text().strip())
    return Platform(settings.model_copy(update={"now": now}))


@dg.definitions
def defs() -> dg.Definitions:
    for module in (aliases, rollout, alerting, automation, fresh_windows, retraining, stale_tables):
        module.SECONDS = 1
    alerting.DELIVERY_SECONDS = 1
    # Days that wait are computed in one run.
    fresh_windows.MOST_SINGLE = 1
    return build_definitions(loop_shop.SPECS, {"platform": platform})
