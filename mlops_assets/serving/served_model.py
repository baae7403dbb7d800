"""One version of a model, loaded: from checked rows to predictions.

Which versions are loaded is decided in `model_cache`; what a client sends and gets is decided in
`predict`, `v2` and `invocations`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlops_assets.core import tasks
from mlops_assets.core.tasks import Fitted
from mlops_assets.core.training import FittedModel
from mlops_assets.errors import DataError, GateError
from mlops_assets.serving.columns import input_columns
from mlops_assets.serving.quick import edge_rows, quick_model
from mlops_assets.serving.refusals import Refusal
from mlops_assets.spec import ModelSpec
from mlops_assets.tables import Column

if TYPE_CHECKING:
    import pandas as pd

QUICK_ROWS = 16
"""Up to so many rows the way without frames is the shorter one."""

Rows = Sequence[Sequence[Any]]
Predicted = Mapping[str, npt.NDArray[Any]]
VENN_ABERS = ("venn_abers_low", "venn_abers_high")


@dataclass(frozen=True, slots=True, eq=False)
class ServedModel:
    """A version that answers; one is equal to itself alone.

    Args:
        spec: the model.
        version: its version.
        fitted: what was loaded.
        quick: the same on rows of plain values; None where there is no such way.
    """

    spec: ModelSpec
    version: str
    fitted: Fitted
    quick: Fitted | None

    @classmethod
    def warmed(cls, spec: ModelSpec, version: str, fitted: Fitted) -> "ServedModel":
        """A version that has predicted once, so that its first request is no slower than others.

        Raises:
            DataError: when it wants other inputs than the spec says, or does not predict.
        """
        names = list(spec.inputs)
        estimator = fitted.classifier if isinstance(fitted, FittedModel) else fitted.regressor
        learned = _names_learned(estimator)
        if learned is not None and learned != names:
            other = sorted(set(learned) ^ set(names))
            raise DataError(
                f"version {version} of {spec.name!r} was trained on other inputs: "
                f"{', '.join(other) or 'the same in another order'}",
                expected="the inputs of the spec",
                do="train the model again, or serve with the code that trained it",
            )
        frame = partial(frame_of, input_columns(spec))
        found = cls(spec, version, fitted, quick_model(fitted, names, frame))
        rows = edge_rows([[None]] * len(names), 1)
        try:
            for many in (rows, rows * (QUICK_ROWS + 1)):
                found.predict(many)
        except Refusal:
            # Some estimators take no nulls: a refusal is an answer too.
            pass
        except Exception as broken:
            raise DataError(
                f"version {version} of {spec.name!r} does not predict: {type(broken).__name__}",
                expected="a prediction, or a refusal of the values",
                do="look at the estimator and its inputs; it takes no traffic",
            ) from broken
        return found

    @property
    def binary(self) -> bool:
        """Whether it answers probabilities."""
        return isinstance(self.fitted, FittedModel)

    @property
    def coverage(self) -> float:
        """Stated coverage of its sets or intervals."""
        return self.fitted.rule.confidence

    def predict(self, rows: Rows) -> Predicted:
        """Columns of predictions, each of shape (n,); with a Venn-Abers interval where it has one.

        Args:
            rows: checked values in the order of the spec's inputs.

        Raises:
            Refusal: values that the model cannot take.
        """
        inputs: Any
        if self.quick is not None and len(rows) <= QUICK_ROWS:
            fitted, inputs = self.quick, rows
        else:
            fitted, inputs = self.fitted, frame_of(input_columns(self.spec), rows)
        try:
            found = tasks.predictions(fitted, inputs)
            if isinstance(fitted, FittedModel) and hasattr(fitted.classifier, "intervals"):
                ends = fitted.classifier.intervals(inputs).T
                found = {**found, **dict(zip(VENN_ABERS, ends, strict=True))}
        except (ValueError, GateError) as refused:
            raise Refusal(
                "values that the model cannot take",
                expected="categories that it has learned, and numbers of an ordinary size",
                do="look at categories first, then at nulls and very large numbers",
            ) from refused
        first = next(iter(found.values()))
        if not bool(np.isfinite(first).all()):
            raise Refusal(
                "values for which the model gives no finite number",
                expected="numbers of an ordinary size",
                do="look at very large numbers",
            )
        return found


def frame_of(columns: Sequence[Column], rows: Rows) -> "pd.DataFrame":
    """The frame of checked rows: texts as objects, numbers as float64, null as None or NaN."""
    import pandas as pd

    found: dict[str, Any] = {}
    for column, values in zip(columns, zip(*rows, strict=True), strict=True):
        if column.type == "time":
            found[column.name] = pd.to_datetime(list(values), utc=True)
        elif column.type == "string":
            texts = np.empty(len(values), dtype=object)
            texts[:] = values
            found[column.name] = texts
        else:
            found[column.name] = np.array(values, dtype=np.float64)
    return pd.DataFrame(found)


def _names_learned(estimator: Any) -> list[str] | None:
    """The columns that an estimator was fitted on; None where it does not tell."""
    while estimator is not None:
        names = getattr(estimator, "feature_names_in_", None)
        if names is not None:
            return [str(name) for name in names]
        estimator = getattr(estimator, "estimator", None)
    return None
