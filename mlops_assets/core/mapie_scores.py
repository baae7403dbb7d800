"""MAPIE's conformity scores of rows whose probabilities are there already.

The only file that knows how MAPIE wants to be called; what becomes of the scores is decided in
`conformal`.
"""

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mlops_assets.core.intervals import Floats
from mlops_assets.errors import GateError

Score = Literal["lac", "aps", "raps"]
SCORES: tuple[Score, ...] = ("lac", "aps", "raps")


def conformity_scores(
    every: Floats, classes: NDArray[np.intp], confidence: float, score: Score, seed: int
) -> tuple[Floats, Any]:
    """The scores of rows, shape (n,), and for raps MAPIE's score object, fitted.

    Args:
        every: shape (n, K), checked probabilities.
        classes: shape (n,), 0 to K - 1.
        confidence: in (0, 1); for raps, which fits its penalty to it.
        score: which score.
        seed: seed of the randomized scores of aps and raps, and of raps' choice of rows.

    Raises:
        GateError: rows that MAPIE refuses.
    """
    from mapie.classification import SplitConformalClassifier
    from mapie.conformity_scores import RAPSConformityScore

    raps = RAPSConformityScore() if score == "raps" else None
    with warnings.catch_warnings():
        # Some of many classes may be missing from the rows; their columns are there.
        warnings.filterwarnings("ignore", "WARNING: your conformalization dataset has less labels")
        try:
            fitted = SplitConformalClassifier(
                _scored(every.shape[1]),
                confidence_level=confidence,
                conformity_score=raps or score,
                prefit=True,
                random_state=seed,
            ).conformalize(every, classes)
            if raps is not None:  # it chooses its penalty when it first predicts
                fitted.predict_set(every[:1])
        except ValueError as refused:
            raise GateError(
                f"MAPIE cannot conformalize {classes.size} rows with {score=}: {refused}",
                expected="rows enough for the confidence; for aps and raps three classes among "
                "them; for raps two rows of each class, and enough in the tenth it sets aside",
                do="take a longer conformalize window, or the score lac",
            ) from refused
    return np.asarray(fitted.conformity_scores, dtype=np.float64).ravel(), raps


def _scored(k: int) -> Any:
    """A fitted classifier whose inputs are its probabilities, shape (n, k).

    MAPIE tries a model on an array of zeros before it uses it, and ours take frames.
    """
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Scored(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
        classes_ = np.arange(k)
        n_features_in_ = k

        def fit(self, inputs: Any, labels: Any) -> Any:
            return self

        def predict_proba(self, inputs: Any) -> Any:
            return np.asarray(inputs)

        def predict(self, inputs: Any) -> Any:
            return np.asarray(inputs).argmax(axis=1)

        def __sklearn_is_fitted__(self) -> bool:
            return True

    return Scored()
