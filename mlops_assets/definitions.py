"""The default code location: the models that `MLOPS_SPECS` names, else those of the showcase.

A code location with more in it is a module like this one, named in `workspace.yaml`.
"""

from mlops_assets import declared
from mlops_assets.defs.build import build_definitions
from mlops_assets.settings import Settings

defs = build_definitions(declared.specs(Settings()))
