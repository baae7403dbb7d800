"""Profiles: compact summaries of a column in a window that add up exactly.

A profile counts rows by the bins of a reference, so that windows of any length, slices and arms are
summed from days without looking at rows again. The reference's own profile is kept once with the
model version, as a plain dict. How far a profile is from its reference is measured in `divergence`
and judged in `drift`; profiles of many columns at once are made in `engines/profiles.py`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops_assets.errors import DataError

N_BINS = 20
MOST_CATEGORIES = 1_000
"""Categories that are counted by name; the rarer ones of a reference are counted together."""
MOST_NAMES = 20
"""Names of unknown categories that are kept: the first in order, so that merging is exact."""
LARGEST = 1e150
"""Deviation from the center beyond which a value is counted and left out of the moments: the sum
of its square is no number."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class NumberBins:
    """Where a number is cut: bins of about equal mass of the reference that split no ties.

    Args:
        least: the smallest value of the reference.
        uppers: upper ends of the bins, inclusive and ascending; the last is the largest value.
            None when the reference has no values: then every value lies outside.
        center: moments are sums of deviations from it, so that large numbers lose no digits.
    """

    least: float
    uppers: tuple[float, ...]
    center: float

    def __post_init__(self) -> None:
        numbers = (self.least, *self.uppers)
        rising = all(low < high for low, high in pairwise(self.uppers))
        if not (all(map(math.isfinite, (*numbers, self.center))) and rising) or (
            self.uppers and self.least > self.uppers[0]
        ):
            raise DataError(
                f"bins from {self.least} with the upper ends {self.uppers}, center {self.center}",
                expected="finite numbers, the upper ends ascending from the smallest value",
                do="make the bins anew with NumberBins.of",
            )

    @classmethod
    def of(cls, values: npt.ArrayLike, n_bins: int = N_BINS) -> "NumberBins":
        """Cut the reference's values, shape (n,); those that are not finite are left out.

        >>> NumberBins.of([0, 0, 0, 0, 0, 0, 0, 1, 2, 3], n_bins=4).uppers
        (0.0, 3.0)
        """
        array = np.asarray(values, dtype=np.float64)
        ordered = np.sort(array[np.isfinite(array)])
        if ordered.size == 0:
            return cls(0.0, (), 0.0)
        middle = ordered[np.arange(1, n_bins) * ordered.size // n_bins]
        wanted = np.arange(1, n_bins) * ordered.size / n_bins
        before = np.searchsorted(ordered, middle, "left")
        behind = np.searchsorted(ordered, middle, "right")
        cuts = np.where(wanted - before <= behind - wanted, before, behind)
        ends = np.unique(np.append(cuts[cuts > 0], ordered.size)) - 1
        uppers = tuple(ordered[ends].tolist())
        near = ordered[np.abs(ordered) <= LARGEST]
        return cls(float(ordered[0]), uppers, float(near.mean()) if near.size else 0.0)

    @property
    def bounds(self) -> tuple[float, ...]:
        """Inclusive upper ends of all cells but the last: below the least, then the bins."""
        return (math.nextafter(self.least, -math.inf), *self.uppers)


@dataclass(frozen=True, slots=True)
class CategoryBins:
    """The categories that are counted by name, in order.

    Args:
        categories: the categories.
        complete: whether these are all that the reference has, so that any other is a new one.
    """

    categories: tuple[str, ...]
    complete: bool = True

    def __post_init__(self) -> None:
        if list(self.categories) != sorted(set(self.categories)):
            raise DataError(
                f"the categories {', '.join(self.categories[:10])}, ...",
                expected="different names in order",
                do="make the bins anew with CategoryBins.of",
            )

    @classmethod
    def of(cls, counts: Mapping[str, int], most: int = MOST_CATEGORIES) -> "CategoryBins":
        """Keep the most frequent categories of the reference.

        >>> CategoryBins.of({"a": 5, "b": 1, "c": 3}, most=2)
        CategoryBins(categories=('a', 'c'), complete=False)
        """
        frequent = sorted(counts, key=lambda name: (-counts[name], name))[:most]
        return cls(tuple(sorted(frequent)), len(counts) <= most)


@dataclass(frozen=True, slots=True)
class NumberProfile:
    """A number in a window.

    Args:
        bins: where it is cut.
        counts: rows below the bins, in each of them, and above them.
        nulls: rows without a finite value.
        total: sum of the deviations from the center of the bins, but for those beyond `LARGEST`.
        squares: sum of their squares.
        minimum: smallest value; None without values.
        maximum: largest value; None without values.
    """

    bins: NumberBins
    counts: tuple[int, ...]
    nulls: int = 0
    total: Fraction = Fraction(0)
    squares: Fraction = Fraction(0)
    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        _refuse_damaged(self.counts, len(self.bins.uppers) + 2, self.nulls)

    @classmethod
    def of(cls, values: npt.ArrayLike, bins: NumberBins) -> "NumberProfile":
        """Profile of values, shape (n,); null is NaN.

        >>> NumberProfile.of([-1, 0, 1, float("nan")], NumberBins(0.0, (0.0, 3.0), 0.0)).counts
        (1, 1, 1, 0)
        """
        array = np.asarray(values, dtype=np.float64)
        finite = array[np.isfinite(array)]
        cells = np.searchsorted(np.array(bins.bounds), finite, "left")
        with np.errstate(over="ignore"):
            off = finite - bins.center
        off = off[np.abs(off) <= LARGEST]
        return cls(
            bins,
            tuple(np.bincount(cells, minlength=len(bins.uppers) + 2).tolist()),
            int(array.size - finite.size),
            Fraction(float(off.sum())),
            Fraction(float((off * off).sum())),
            float(finite.min()) if finite.size else None,
            float(finite.max()) if finite.size else None,
        )

    @property
    def values(self) -> int:
        """Rows with a value."""
        return sum(self.counts)

    @property
    def rows(self) -> int:
        """All rows."""
        return self.values + self.nulls

    @property
    def mean(self) -> float:
        """Mean of the values; NaN without values."""
        return self.bins.center + float(self.total / self.values) if self.values else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation of the values (of all, not of a sample); NaN without values."""
        if not self.values:
            return math.nan
        mean = self.total / self.values
        return math.sqrt(max(0.0, float(self.squares / self.values - mean * mean)))


@dataclass(frozen=True, slots=True)
class CategoryProfile:
    """A text in a window.

    Args:
        bins: the categories that are counted by name.
        counts: rows of each of them.
        others: rows of any other.
        names: names of others, the first `MOST_NAMES` in order.
        nulls: rows without a value.
    """

    bins: CategoryBins
    counts: tuple[int, ...]
    others: int = 0
    names: tuple[str, ...] = ()
    nulls: int = 0

    def __post_init__(self) -> None:
        _refuse_damaged(self.counts, len(self.bins.categories), self.nulls, self.others)

    @classmethod
    def of(cls, counts: Mapping[str, int], bins: CategoryBins, nulls: int = 0) -> "CategoryProfile":
        """Profile of rows that are counted by category.

        >>> found = CategoryProfile.of({"a": 2, "z": 1}, CategoryBins(("a", "b")))
        >>> found.counts, found.others, found.names
        ((2, 0), 1, ('z',))
        """
        known = set(bins.categories)
        other = {name: count for name, count in counts.items() if name not in known and count}
        return cls(
            bins,
            tuple(counts.get(name, 0) for name in bins.categories),
            sum(other.values()),
            tuple(sorted(other)[:MOST_NAMES]),
            nulls,
        )

    @property
    def values(self) -> int:
        """Rows with a value."""
        return sum(self.counts) + self.others

    @property
    def rows(self) -> int:
        """All rows."""
        return self.values + self.nulls


Bins = NumberBins | CategoryBins
Profile = NumberProfile | CategoryProfile


def merge(a: Profile, b: Profile) -> Profile:
    """The profile of the rows of both, exactly: in any order and grouping it is the same.

    Raises:
        DataError: when the profiles were not made with the same bins.

    >>> bins = NumberBins.of([1, 2, 3])
    >>> merge(NumberProfile.of([1], bins), NumberProfile.of([2, 9], bins)).counts
    (0, 1, 1, 0, 1)
    """
    if isinstance(a, NumberProfile) and isinstance(b, NumberProfile) and a.bins == b.bins:
        return NumberProfile(
            a.bins,
            _sums(a.counts, b.counts),
            a.nulls + b.nulls,
            a.total + b.total,
            a.squares + b.squares,
            min((x for x in (a.minimum, b.minimum) if x is not None), default=None),
            max((x for x in (a.maximum, b.maximum) if x is not None), default=None),
        )
    if isinstance(a, CategoryProfile) and isinstance(b, CategoryProfile) and a.bins == b.bins:
        return CategoryProfile(
            a.bins,
            _sums(a.counts, b.counts),
            a.others + b.others,
            # The first names of all are among the first names of each part.
            tuple(sorted({*a.names, *b.names})[:MOST_NAMES]),
            a.nulls + b.nulls,
        )
    raise DataError(
        "two profiles with other bins",
        expected="profiles of one column, made with the bins of one reference",
        do="profile both windows with the reference of one model version",
    )


def as_dict(profile: Profile) -> dict[str, Any]:
    """A profile as plain values for JSON."""
    if isinstance(profile, CategoryProfile):
        return {
            "kind": "category",
            "categories": list(profile.bins.categories),
            "complete": profile.bins.complete,
            "counts": list(profile.counts),
            "others": profile.others,
            "names": list(profile.names),
            "nulls": profile.nulls,
        }
    return {
        "kind": "number",
        "least": profile.bins.least,
        "uppers": list(profile.bins.uppers),
        "center": profile.bins.center,
        "counts": list(profile.counts),
        "nulls": profile.nulls,
        # Texts, because other readers of JSON have no numbers of any length.
        "total": str(profile.total),
        "squares": str(profile.squares),
        "minimum": profile.minimum,
        "maximum": profile.maximum,
    }


def of_dict(document: Mapping[str, Any]) -> Profile:
    """Read what `as_dict` wrote.

    Raises:
        DataError: when it is no profile.
    """
    try:
        kept = dict(document)
        if kept.pop("kind") == "category":
            known = CategoryBins(tuple(kept.pop("categories")), kept.pop("complete"))
            kept |= {name: tuple(kept[name]) for name in ("counts", "names")}
            return CategoryProfile(bins=known, **kept)
        if document["kind"] != "number":
            raise ValueError(document["kind"])
        bins = NumberBins(kept.pop("least"), tuple(kept.pop("uppers")), kept.pop("center"))
        kept |= {name: Fraction(kept[name]) for name in ("total", "squares")}
        return NumberProfile(bins=bins, **{**kept, "counts": tuple(kept["counts"])})
    except (KeyError, TypeError, ValueError) as wrong:
        raise DataError(
            f"a document that is no profile: {type(wrong).__name__} {wrong}",
            expected="what as_dict wrote",
            do="make the reference profile of the model version anew",
        ) from wrong


def _sums(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _refuse_damaged(counts: tuple[int, ...], cells: int, *rest: int) -> None:
    if len(counts) != cells or min((*counts, *rest)) < 0:
        raise DataError(
            f"the counts {counts} and {rest} of {cells} cells",
            expected="a count of at least 0 for every cell",
            do="make the profile anew",
        )
