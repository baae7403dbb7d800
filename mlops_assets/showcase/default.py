"""The models that are served when nobody names others: those of the showcase.

Beside `definitions.SPECS`, which a server must not import: it brings dagster along.
"""

from mlops_assets.showcase.flights.specs import SPECS

__all__ = ["SPECS"]
