"""Worked examples. The only place where the platform meets a concrete domain.

`SPECS` are the models that are run where nobody names others.
"""

from mlops_assets.showcase.flights.specs import SPECS

__all__ = ["SPECS"]
