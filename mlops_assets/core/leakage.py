"""Leakage in a training set: values from the future, and features that give the label away.

Pure comparison of columns. What was knowable is computed in `engines/knowable.py`; how rows are
drawn and read belongs to the asset checks.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mlops_assets.core.verdict import Verdict, uncomputable

LEAKAGE_FREE = "leakage_free"
NO_LABEL = "no_label_in_features"
MOST_NAMED = 5
MADE_UP = "a value that was never there"
MIN_OF_CLASS = 100
"""Fewer rows of a class than this, and a feature can separate them by chance."""

Columns = Mapping[str, Sequence[Any]]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Difference:
    """A value of a training row that is not what was knowable at the row's time."""

    feature: str
    place: int
    found: Any
    expected: Any


@dataclass(frozen=True)
class Plant:
    """A value from the future, put in the place of a known one to test the comparison."""

    feature: str
    place: int
    value: Any


def same(found: Any, expected: Any) -> bool:
    """Whether two values are equal; a missing one may be None or NaN.

    >>> same(1, 1.0), same(None, float("nan")), same(0.0, None)
    (True, True, False)
    """
    if _missing(found) or _missing(expected):
        return _missing(found) and _missing(expected)
    return bool(found == expected)


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def differences(found: Columns, expected: Columns) -> Iterator[Difference]:
    """Yield each value of `found` that is not the one of `expected`, feature by feature."""
    for feature, values in expected.items():
        for place, (had, wanted) in enumerate(zip(found[feature], values, strict=True)):
            if not same(had, wanted):
                yield Difference(feature, place, had, wanted)


def plant(known: Columns, future: Columns) -> Plant:
    """Choose the first value of the future that differs from the known one.

    `future` may stop after the first rows. Where no value ever changes there is none to leak; a
    made-up one is planted then.
    """
    start = {name: known[name][: len(values)] for name, values in future.items()}
    found = (d for d in differences(future, start) if not _missing(d.found))
    first = next(found, Difference(next(iter(known)), 0, MADE_UP, None))
    return Plant(first.feature, first.place, first.found)


def leakage_free(
    rows: Sequence[Any], found: Columns, expected: Columns, plants: Sequence[Plant]
) -> Verdict:
    """Judge a sample of a training set by what was knowable at each row's time.

    Args:
        rows: ids of the rows, shape (n,).
        found: the features as the training set has them, n values each.
        expected: what was knowable, n values each.
        plants: values from the future; each must be found in a copy that holds it.

    Raises:
        GateError: without rows, features or plants there is nothing to judge.
    """
    values = len(rows) * len(expected)
    if not values or not plants:
        found_none = f"{len(rows)} rows, {len(expected)} features and {len(plants)} plants"
        raise uncomputable(LEAKAGE_FREE, found_none)
    blind = [one for one in plants if not _would_be_found(one, found, expected)]
    wrong = list(differences(found, expected))
    if wrong:
        named = "; ".join(
            f"feature {d.feature}, row {rows[d.place]}: found {d.found!r}, expected {d.expected!r}"
            for d in _one_per_feature(wrong)
        )
        reason = (
            f"{len(wrong):,} of {values:,} values are not what was knowable at their row's time: "
            f"{named}; if the feature tables have changed since, make the training set again"
        )
    elif blind:
        reason = "the check is blind: " + "; ".join(
            f"{one.value!r}, a value of the future planted as {one.feature} of row "
            f"{rows[one.place]}, was not found"
            for one in blind
        )
    else:
        reason = (
            f"all {values:,} values are what was knowable at their row's time; "
            f"each of {len(plants)} planted values of the future was found"
        )
    return Verdict(
        gate=LEAKAGE_FREE,
        outcome="failed" if wrong or blind else "passed",
        estimate=len(wrong) / values,
        low=None,
        high=None,
        n=len(rows),
        threshold=0.0,
        reason=reason,
        details=(("values_compared", values), ("plants_found", len(plants) - len(blind))),
    )


def _would_be_found(one: Plant, found: Columns, expected: Columns) -> bool:
    """Whether the comparison tells the plant, and nothing else, from the column without it."""
    before = list(found[one.feature])
    copy = [*before[: one.place], one.value, *before[one.place + 1 :]]
    wanted = {one.feature: expected[one.feature]}
    told = {d.place for d in differences({one.feature: copy}, wanted)}
    return one.place in told


def _one_per_feature(wrong: Sequence[Difference]) -> list[Difference]:
    return list({d.feature: d for d in reversed(wrong)}.values())[::-1][:MOST_NAMED]


def single_feature_auc(values: Floats, labels: npt.NDArray[np.int64]) -> float:
    """How well one feature alone ranks the label, in either direction: 0.5 is not at all.

    A null can tell the label, too. So nulls are once dropped, once the lowest and once the highest
    value, and the largest AUC counts. They are dropped only where enough rows of both classes
    remain.

    Args:
        values: the feature, NaN where null, shape (n,).
        labels: 0 or 1, both there, shape (n,).
    """
    null = np.isnan(values)
    positive = labels == 1
    ones, zeros = np.sort(values[positive & ~null]), np.sort(values[~positive & ~null])
    null_ones, null_zeros = int((positive & null).sum()), int((~positive & null).sum())
    # Pairs in which the positive row has the larger value; a tie is half a pair.
    wins = 0.5 * float(
        np.searchsorted(zeros, ones, "left").sum() + np.searchsorted(zeros, ones, "right").sum()
    )
    pairs = (len(ones) + null_ones) * (len(zeros) + null_zeros)
    ties = 0.5 * null_ones * null_zeros
    found = [
        (wins + len(ones) * null_zeros + ties) / pairs,
        (wins + null_ones * len(zeros) + ties) / pairs,
    ]
    if min(len(ones), len(zeros)) >= MIN_OF_CLASS:
        found.append(wins / (len(ones) * len(zeros)))
    return max(max(auc, 1 - auc) for auc in found)


def rates_of_levels(codes: npt.NDArray[np.int64], labels: npt.NDArray[np.int64]) -> Floats:
    """Turn the levels of a text into numbers that can be ranked: each level's rate of the label.

    The rates come from other rows than the ones they are given to (even and odd ones in turn):
    a level that is there once would otherwise know its label.

    Args:
        codes: number of the level, from 0 on, shape (n,).
        labels: 0 or 1, shape (n,).

    Returns:
        The rate of the level among the other half, the overall rate for a level not seen there.
    """
    rates = np.empty(len(codes))
    size = int(codes.max(initial=0)) + 1
    for half in (0, 1):
        theirs, ours = slice(1 - half, None, 2), slice(half, None, 2)
        n = np.bincount(codes[theirs], minlength=size)
        ones = np.bincount(codes[theirs], weights=labels[theirs], minlength=size)
        rate = np.full(size, labels[theirs].mean() if n.sum() else 0.0)
        np.divide(ones, n, out=rate, where=n > 0)
        rates[ours] = rate[codes[ours]]
    return rates


def no_label_in_features(
    features: Mapping[str, Floats], labels: npt.NDArray[np.int64], limit: float
) -> Verdict:
    """Judge whether some feature alone predicts the label too well to be true.

    Args:
        features: each as numbers that can be ranked, NaN where null, shape (n,).
        labels: 0 or 1, shape (n,).
        limit: the largest AUC allowed.

    Raises:
        GateError: there are no features.
    """
    if not features:
        raise uncomputable(NO_LABEL, "no features")
    ones = int(labels.sum())
    fewest = min(ones, len(labels) - ones)
    aucs: dict[str, float] = {}
    if fewest >= MIN_OF_CLASS:
        found = {name: single_feature_auc(values, labels) for name, values in features.items()}
        aucs = dict(sorted(found.items(), key=lambda item: -item[1]))
    wrong = [f"{name} (AUC {auc:.4f})" for name, auc in aucs.items() if auc > limit]
    if not aucs:
        outcome = "inconclusive"
        reason = (
            f"{fewest:,} training rows of the rarer class cannot tell; "
            f"expected at least {MIN_OF_CLASS:,}"
        )
    elif wrong:
        outcome = "failed"
        reason = (
            f"alone predict the label better than an AUC of {limit:g}: {', '.join(wrong)}; "
            "they may hold the label, or what is known only after it"
        )
    else:
        outcome = "passed"
        best = next(iter(aucs))
        reason = f"no feature alone predicts the label; the best, {best}, has AUC {aucs[best]:.4f}"
    return Verdict(
        gate=NO_LABEL,
        outcome=outcome,  # type: ignore[arg-type] # one of three literals, above
        estimate=max(aucs.values(), default=None),
        low=None,
        high=None,
        n=len(labels),
        threshold=limit,
        reason=reason,
        details=tuple((f"auc/{name}", auc) for name, auc in list(aucs.items())[:MOST_NAMED]),
    )
