"""Profiles add up exactly, split no ties, and come back from JSON as they were."""

import json
from collections import Counter
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.profile import (
    CategoryBins,
    CategoryProfile,
    NumberBins,
    NumberProfile,
    Profile,
    as_dict,
    merge,
    of_dict,
)
from mlops_assets.errors import DataError

BINS = NumberBins.of(np.arange(-50.0, 50.0), 7)
KNOWN = CategoryBins(("a", "b"))
NUMBERS = st.lists(st.floats(allow_subnormal=False, width=32), max_size=20).map(
    lambda values: NumberProfile.of(values, BINS)
)
TEXTS = st.lists(st.sampled_from([*"abcdefghijklmnopqrstuvwxyz", None]), max_size=60).map(
    lambda values: CategoryProfile.of(
        Counter(v for v in values if v is not None), KNOWN, values.count(None)
    )
)
TRIPLES = st.one_of(st.tuples(NUMBERS, NUMBERS, NUMBERS), st.tuples(TEXTS, TEXTS, TEXTS))


@given(TRIPLES)
def test_merging_is_exact_in_any_order_and_grouping(
    parts: tuple[Profile, Profile, Profile],
) -> None:
    a, b, c = parts
    assert merge(merge(a, b), c) == merge(a, merge(b, c)) == merge(c, merge(b, a))
    none = NumberProfile.of([], BINS), CategoryProfile.of({}, KNOWN)
    assert merge(a, none[isinstance(a, CategoryProfile)]) == a


@given(st.lists(st.integers(-(2**20), 2**20)), st.lists(st.integers(-(2**20), 2**20)))
def test_merged_profiles_of_parts_are_the_profile_of_all_rows(a: list[int], b: list[int]) -> None:
    bins = NumberBins((-10.0), (0.0, 10.0), 0.0)
    found = merge(NumberProfile.of(a, bins), NumberProfile.of(b, bins))
    assert found == NumberProfile.of([*a, *b], bins)


@given(st.lists(st.sampled_from("abcxyz")), st.lists(st.sampled_from("abcxyz")))
def test_merged_categories_of_parts_are_those_of_all_rows(a: list[str], b: list[str]) -> None:
    parts = (CategoryProfile.of(Counter(rows), KNOWN) for rows in (a, b))
    assert merge(*parts) == CategoryProfile.of(Counter([*a, *b]), KNOWN)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.integers(1, 20))
def test_bins_hold_every_row_of_the_reference_and_none_is_empty(
    values: list[float], n_bins: int
) -> None:
    bins = NumberBins.of(values, n_bins)
    counts = NumberProfile.of(values, bins).counts
    assert counts[0] == counts[-1] == 0
    assert sum(counts) == len(values)
    assert min(counts[1:-1]) > 0
    assert len(bins.uppers) <= n_bins


def test_bins_of_a_continuous_column_have_equal_mass() -> None:
    values = np.random.default_rng(0).normal(size=10_000)
    counts = NumberProfile.of(values, NumberBins.of(values)).counts
    assert set(counts[1:-1]) == {500}


def test_a_value_that_most_rows_have_gets_a_bin_of_its_own() -> None:
    values = np.r_[np.zeros(950), np.arange(1, 51)]
    assert NumberBins.of(values).uppers == (0.0, 50.0)


@given(st.lists(st.integers(0, 6), min_size=200, max_size=300))
def test_values_are_never_parted_by_a_bin(values: list[int]) -> None:
    uppers = NumberBins.of(values).uppers
    assert set(uppers) <= set(map(float, values))
    assert all(low < high for low, high in pairwise(uppers))


def test_a_few_different_values_get_a_bin_each() -> None:
    assert NumberBins.of(list(range(7)) * 30).uppers == tuple(map(float, range(7)))


def test_values_below_and_above_the_reference_are_counted_apart() -> None:
    found = NumberProfile.of([-51, -50, 49, 50, 51], BINS).counts
    assert (found[0], found[1], found[-2], found[-1]) == (1, 1, 1, 2)


def test_null_and_infinity_are_nulls() -> None:
    found = NumberProfile.of([np.nan, np.inf, -np.inf, 1.0], BINS)
    assert (found.nulls, found.values, found.rows) == (3, 1, 4)
    assert (found.minimum, found.maximum) == (1.0, 1.0)


def test_moments_of_large_numbers_lose_no_digits() -> None:
    values = 1.7e9 + np.array([0.0, 0.25, 0.5])
    profile = NumberProfile.of(values, NumberBins.of(values))
    assert profile.mean == 1.7e9 + 0.25
    assert profile.deviation == pytest.approx(np.std([0, 0.25, 0.5]), rel=1e-12)


def test_moments_without_values_are_none_that_can_be_taken_for_numbers() -> None:
    assert np.isnan(NumberProfile.of([np.nan], BINS).mean)
    assert np.isnan(NumberProfile.of([np.nan], BINS).deviation)


def test_a_reference_without_values_has_everything_outside() -> None:
    bins = NumberBins.of([np.nan])
    assert NumberProfile.of([-1.0, 0.0, 2.0], bins).counts == (1, 2)


def test_categories_of_a_reference_are_its_most_frequent_ones() -> None:
    assert CategoryBins.of({"a": 1, "b": 2}) == CategoryBins(("a", "b"), complete=True)
    assert CategoryBins.of({"a": 1, "b": 2}, most=1) == CategoryBins(("b",), complete=False)


def test_names_of_new_categories_are_kept_up_to_a_number_and_all_are_counted() -> None:
    many = {f"n{i:03}": 2 for i in range(100)}
    found = CategoryProfile.of(many, KNOWN)
    assert found.others == 200
    assert found.names == tuple(f"n{i:03}" for i in range(20))


@pytest.mark.parametrize(
    "other",
    [
        NumberProfile.of([1.0], NumberBins.of([1.0, 2.0])),
        CategoryProfile.of({"a": 1}, KNOWN),
    ],
)
def test_profiles_of_other_bins_are_not_merged(other: Profile) -> None:
    with pytest.raises(DataError, match="other bins"):
        merge(NumberProfile.of([1.0], BINS), other)


@given(st.one_of(NUMBERS, TEXTS))
def test_a_profile_comes_back_from_json_as_it_was(profile: Profile) -> None:
    assert of_dict(json.loads(json.dumps(as_dict(profile)))) == profile


@pytest.mark.parametrize(
    "change",
    [{"counts": [1, 2]}, {"uppers": [2.0, 1.0]}, {"total": "x"}, {"kind": None}, {"nulls": -1}],
)
def test_a_damaged_profile_is_refused(change: dict[str, object]) -> None:
    whole = as_dict(NumberProfile.of([0.1, 0.3], BINS))
    assert isinstance(of_dict(whole), NumberProfile)
    with pytest.raises(DataError):
        of_dict({**whole, **change})


def test_sums_are_kept_exactly() -> None:
    bins = NumberBins(0.0, (1.0,), 0.0)
    thirds = [NumberProfile.of([x], bins) for x in (0.1, 0.2, 0.3)]
    total = merge(merge(thirds[0], thirds[1]), thirds[2])
    assert isinstance(total, NumberProfile)
    assert total.total == sum(map(Fraction, (0.1, 0.2, 0.3)))
