"""An MLOps platform in which a model is promoted when its probabilities mean what they say.

The public names are those of `__all__`; they load when they are used.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "mlops_assets.spec": (
        "FoldPolicy",
        "GatePolicy",
        "Label",
        "Metric",
        "ModelSpec",
        "ReleasePolicy",
        "Search",
        "Slice",
    ),
    "mlops_assets.tables": (
        "Calendar",
        "Column",
        "Entity",
        "EntityRows",
        "FeatureService",
        "FeatureView",
        "RequestFeatures",
        "Source",
    ),
    "mlops_assets.monitoring_policy": ("MonitoringPolicy",),
    "mlops_assets.retraining_policy": ("RetrainingPolicy",),
    "mlops_assets.serving_policy": ("RolloutPolicy", "ServingPolicy"),
    "mlops_assets.windows": ("Window", "Windows"),
    "mlops_assets.defs.build": ("build_definitions",),
}

__all__ = sorted(name for names in _HOMES.values() for name in names)


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
