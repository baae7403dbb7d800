"""The models that somebody declared: where commands, servers and the code location find them.

The settings name a module and its attribute; without that they are those of the showcase. What a
model is stands in `spec`.
"""

import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

from mlops_assets.errors import DeclarationError, UnknownNameError
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec
from mlops_assets.tables import refuse_duplicates


def specs(settings: Settings) -> tuple[ModelSpec, ...]:
    """The models of the settings, of a module that is installed or lies in the current folder.

    Raises:
        DeclarationError: when there are none, or two of one name.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        # As Dagster looks for code locations; last, so that nothing here hides what is installed.
        sys.path.append(here)
    path = settings.specs
    try:
        found = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise DeclarationError(
            f"the models {path!r} cannot be imported: {error}",
            expected="module:ATTRIBUTE, such as my_models.specs:SPECS",
            do="correct MLOPS_SPECS",
        ) from error
    listed = (found,) if isinstance(found, ModelSpec) else found
    several = isinstance(listed, (tuple, list)) and len(listed) > 0
    if not several or not all(isinstance(one, ModelSpec) for one in listed):
        raise DeclarationError(
            f"{path!r} is a {type(found).__name__}",
            expected="a ModelSpec, or a tuple of them",
            do="correct MLOPS_SPECS",
        )
    refuse_duplicates("model", path, listed)
    return tuple(listed)


def named(models: Sequence[ModelSpec], name: str) -> ModelSpec:
    """The model of a name.

    Raises:
        UnknownNameError: when there is none.
    """
    by_name = {one.name: one for one in models}
    if name not in by_name:
        raise UnknownNameError.of("model", name, by_name)
    return by_name[name]
