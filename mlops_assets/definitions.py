"""The default code location: the models of the flights showcase.

Your own code location is a module like this one, named in `workspace.yaml`.
"""

from mlops_assets.defs.build import build_definitions
from mlops_assets.showcase.flights.specs import SPECS

__all__ = ["SPECS", "defs"]

defs = build_definitions(SPECS)
