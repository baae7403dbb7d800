"""How much each input of a fitted model matters, by shuffling it.

For every kind of model that can tell the loss of a row; what is done with the answer is not known.
"""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from mlops_assets.core.training import Rows

if TYPE_CHECKING:
    import pandas as pd


Floats = npt.NDArray[np.float64]


class Judged(Protocol):
    """A fitted model that tells the loss of each row, shape (n,)."""

    def losses(self, inputs: "pd.DataFrame", labels: npt.NDArray[Any]) -> Floats: ...  # noqa: D102


def importance(model: Judged, rows: Rows, *, seed: int, most: int = 2_000) -> dict[str, float]:
    """How much the mean loss rises when a column is shuffled (Breiman 2001), largest first.

    Args:
        model: the fitted model.
        rows: rows that it has not learned from; at most `most` of them are used.
        seed: seed of sample and shuffles.
        most: rows to use.
    """
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(rows.labels))[:most]
    inputs, labels = rows.inputs.iloc[chosen].reset_index(drop=True), rows.labels[chosen]
    base = model.losses(inputs, labels).mean()
    found = {}
    for name in inputs.columns:
        shuffled = inputs.copy(deep=False)
        shuffled[name] = inputs[name].to_numpy()[random.permutation(len(labels))]
        found[name] = float(model.losses(shuffled, labels).mean() - base)
    return dict(sorted(found.items(), key=lambda item: -item[1]))
