"""An estimate with its interval: the number that every gate and report is made of.

Only the value object belongs here; how a quantity is estimated stands in the module of that
quantity (`calibration`, `conformal`, `comparison`).
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """A point estimate, its two-sided interval, and how many rows it rests on.

    `value` need not lie inside the interval: a plug-in ECE, for one, is biased upwards on small
    samples while its interval is for the true quantity.
    """

    value: float
    low: float
    high: float
    n: int
    level: float = 0.95
