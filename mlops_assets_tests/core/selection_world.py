"""Made-up rows in time, and folds of a model that is steady."""

from typing import Any

import numpy as np
import pandas as pd

from mlops_assets.core.selection import Fold, Score, Selection
from mlops_assets.core.training import Rows


def steady(*skills: float, train: float = 0.32, n: int = 5_000) -> Selection:
    """Folds of one estimator with these skills on later and later rows."""
    return Selection(
        "boosting",
        tuple(
            Fold(
                "boosting",
                number,
                f"2024-0{number + 1}-01",
                Score(0.4, train, 0.005, n),
                Score(0.42, skill, 0.005, n),
            )
            for number, skill in enumerate(skills or (0.3, 0.31, 0.3))
        ),
    )


def rows_in_time(inputs: pd.DataFrame, labels: Any, days: int = 20) -> Rows:
    """Rows spread evenly over days, whose labels are known an hour later."""
    hours = np.linspace(0, days * 24 - 1, len(labels)).astype("timedelta64[h]")
    times = (np.datetime64("2024-01-01") + hours).astype("datetime64[us]")
    return Rows(inputs, np.asarray(labels), times, times + np.timedelta64(1, "h"))
