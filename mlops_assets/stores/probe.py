"""The probe of a version: a few rows and what the version said of them when it was registered.

Kept among the metadata that the version's hash protects. A version that says something else where
it is loaded, for whatever reason, is not the one that was judged.
"""

import json
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.core import tasks
from mlops_assets.core.tasks import Fitted
from mlops_assets.errors import ArtifactError

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

PROBE = "probe"
TOLERANCE = 1e-9
"""Another machine adds up in another order."""


def probe_of(fitted: Fitted, rows: "pd.DataFrame") -> str:
    """The probe of a model on some rows, as JSON text."""
    said = tasks.predictions(fitted, rows)
    document = {
        "types": {name: str(kind) for name, kind in rows.dtypes.items()},
        "rows": {
            name: [None if value != value else value for value in column.tolist()]
            for name, column in rows.astype(object).items()
        },
        "said": {name: _numbers(values).tolist() for name, values in said.items()},
    }
    return json.dumps(document, default=str)


def check_probe(fitted: Fitted, text: str, name: str) -> None:
    """Have a loaded model say what was said at its registration.

    Args:
        fitted: the model.
        text: what `probe_of` gave.
        name: what it is called in a message.

    Raises:
        ArtifactError: when it says something else, or nothing.
    """
    import pandas as pd

    probe: dict[str, Any] = json.loads(text)
    types = probe["types"]
    rows = pd.DataFrame(
        {name: pd.Series(values, dtype=types[name]) for name, values in probe["rows"].items()}
    )
    try:
        said = tasks.predictions(fitted, rows)
        found = {key: _numbers(values) for key, values in said.items()}
    except Exception as broken:
        raise _another(name, f"it fails on them: {type(broken).__name__}") from broken
    near = partial(np.allclose, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
    for key, values in probe["said"].items():
        if key not in found or not near(found[key], values):
            raise _another(name, f"of {key} it says {found.get(key)}, recorded are {values}")


def _numbers(values: Any) -> "npt.NDArray[np.float64]":
    return np.asarray(values).astype(np.float64)


def _another(name: str, found: str) -> ArtifactError:
    return ArtifactError(
        f"{name} does not say of its probe rows what it said at registration: {found}",
        expected="the recorded predictions",
        do="compare the libraries with the version's tag mlops.libraries; do not serve it",
    )
