"""Levels of a column: the text by which each row is grouped into slices.

What is measured of a slice is in `slices.py`; which columns are sliced is declared in the spec.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

UNKNOWN = "unknown"
"""Level of a row that has no value."""


def levels(values: npt.ArrayLike, edges: Sequence[float] = ()) -> npt.NDArray[np.str_]:
    """The level of each row, shape (n,).

    Args:
        values: shape (n,); None and NaN are `unknown`.
        edges: ascending; with them values are numbers and levels are bands.

    >>> levels(["JFK", None, "LGA"]).tolist()
    ['JFK', 'unknown', 'LGA']
    >>> levels([True, None, False]).tolist()
    ['true', 'unknown', 'false']
    >>> levels([5.0, 6.0, 23.0, float("nan")], edges=(6, 18)).tolist()
    ['below 6', '6 to 18', '18 and above', 'unknown']
    """
    given = np.asarray(values)
    if not edges:
        # As DuckDB writes them: flags in small letters.
        return np.array(
            [
                UNKNOWN
                if one is None or one != one
                else str(one).lower()
                if isinstance(one, bool | np.bool_)
                else str(one)
                for one in given.tolist()
            ],
            dtype=np.str_,
        )
    numbers = given.astype(np.float64)
    marks = [f"{edge:g}" for edge in edges]
    inner = [f"{low} to {high}" for low, high in pairwise(marks)]
    names = np.array([f"below {marks[0]}", *inner, f"{marks[-1]} and above", UNKNOWN])
    bands = np.searchsorted(np.asarray(edges, dtype=np.float64), numbers, side="right")
    return np.asarray(names[np.where(np.isnan(numbers), len(edges) + 1, bands)])
