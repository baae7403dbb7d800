"""Routing is sticky, nested and fair."""

import timeit
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.routing import (
    BUCKETS,
    CONTROL_START,
    Arm,
    Route,
    RoutingTable,
    bucket,
    canary_table,
    champion_only,
    route,
    split_table,
)
from mlops_assets.errors import DeclarationError

SHARES = st.integers(0, BUCKETS)
MILLION = 1_000_000


def canary(share: int) -> RoutingTable:
    return canary_table("r", "s", share, canary="2", champion="1")


def owners(table: RoutingTable) -> list[str]:
    """The arm of each bucket."""
    names = [table.rest.name] * BUCKETS
    for one in table.routes:
        names[one.start : one.stop] = [one.arm.name] * one.arm.share
    return names


@given(st.text(), st.text(), st.text())
def test_every_entity_has_a_bucket(entity: str, salt: str, rollout: str) -> None:
    assert 0 <= bucket(entity, salt, rollout) < BUCKETS


def test_an_entity_of_broken_unicode_has_a_bucket() -> None:
    assert bucket("\ud800", "s", "r") != bucket("\ud801", "s", "r")


def test_a_bucket_never_changes_between_processes_and_releases() -> None:
    assert [bucket(e, "salt", "7") for e in ("", "a", "N14228", "ü")] == [5110, 1195, 3540, 2117]


def test_the_parts_of_what_is_hashed_do_not_run_together() -> None:
    found = {
        bucket("c", "a", "b"),
        bucket("bc", "a", ""),
        bucket("c", "", "ab"),
        bucket("c", "ab", ""),
    }
    assert len(found) == 4


@given(st.text(max_size=20), SHARES)
def test_an_entity_gets_the_arm_that_owns_its_bucket(entity: str, share: int) -> None:
    assert route(entity, canary(share)).name == owners(canary(share))[bucket(entity, "s", "r")]


def test_an_entity_joins_the_canary_when_the_share_passes_its_bucket() -> None:
    number = bucket("somebody", "s", "r")
    assert number < CONTROL_START
    assert route("somebody", canary(number)).name == "champion"
    assert route("somebody", canary(number + 1)).name == "canary"


@given(SHARES, SHARES)
def test_arms_of_a_canary_nest_while_it_grows(one: int, other: int) -> None:
    small, large = sorted((one, other))
    for before, after in zip(owners(canary(small)), owners(canary(large)), strict=True):
        if before == "canary":
            assert after == "canary"
        if before == "control" and large <= CONTROL_START:
            assert after == "control"


@given(SHARES)
def test_the_control_is_as_large_as_the_canary_up_to_half_of_the_traffic(share: int) -> None:
    names = owners(canary(share))
    assert names.count("canary") == share
    assert names.count("control") == (share if share <= CONTROL_START else 0)


def test_at_half_of_the_traffic_canary_and_control_have_it_all() -> None:
    assert {arm.name for arm in canary(CONTROL_START).arms} == {"canary", "control"}


def test_a_control_is_served_by_the_champion() -> None:
    assert {arm.name: arm.version for arm in canary(100).arms} == {
        "canary": "2",
        "control": "1",
        "champion": "1",
    }


@given(st.lists(st.integers(0, BUCKETS), min_size=1, max_size=4), st.integers(0, BUCKETS), SHARES)
def test_arms_of_a_split_nest_while_more_traffic_takes_part(
    cuts: list[int], one: int, other: int
) -> None:
    ends = [0, *sorted(cuts), BUCKETS]
    arms = [Arm(str(i), "1", b - a) for i, (a, b) in enumerate(pairwise(ends))]
    small, large = (
        owners(split_table("r", "s", arms, champion="1", exposed=exposed))
        for exposed in sorted((one, other))
    )
    assert all(a in (b, "champion") for a, b in zip(small, large, strict=True))


def test_a_full_split_leaves_nobody_out() -> None:
    arms = [Arm("a", "1", 2_000), Arm("b", "2", 3_000), Arm("c", "3", 5_000)]
    table = split_table("r", "s", arms, champion="1")
    assert table.arms == tuple(arms)
    assert route("somebody", table) in arms


def test_the_champion_alone_gets_everybody() -> None:
    table = champion_only("1", shadow="2")
    assert {route(str(i), table).version for i in range(100)} == {"1"}
    assert table.shadow == "2"


@pytest.mark.parametrize(
    "arms",
    [
        [Arm("a", "1", BUCKETS)],
        [Arm("a", "1", 5_000), Arm("b", "2", 4_999)],
        [Arm("a", "1", 5_000), Arm("a", "2", 5_000)],
        [Arm("champion", "1", 5_000), Arm("b", "2", 5_000)],
        [Arm("a", "1", BUCKETS + 1), Arm("b", "2", -1)],
    ],
)
def test_splits_that_are_none_are_refused(arms: list[Arm]) -> None:
    with pytest.raises(DeclarationError):
        split_table("r", "s", arms, champion="1")


@pytest.mark.parametrize("share", [-1, BUCKETS + 1])
def test_a_canary_outside_of_the_traffic_is_refused(share: int) -> None:
    with pytest.raises(DeclarationError):
        canary(share)


def test_a_table_that_gives_a_bucket_to_two_arms_is_refused() -> None:
    routes = (Route(Arm("a", "1", 600), 0), Route(Arm("b", "2", 400), 500))
    with pytest.raises(DeclarationError, match="a 0 to 600, b 500 to 900"):
        RoutingTable("r", "s", routes, Arm("champion", "1", 9_000))


def test_a_table_that_forgets_a_bucket_is_refused() -> None:
    with pytest.raises(DeclarationError, match="10000 in all"):
        RoutingTable("r", "s", (Route(Arm("a", "1", 600), 0),), Arm("champion", "1", 9_399))


def test_finding_a_bucket_takes_a_few_microseconds_at_most() -> None:
    # About 0.8 us on an idle machine; the bound leaves room for a busy one.
    taken = min(timeit.repeat(lambda: bucket("N14228", "salt", "7"), number=1_000, repeat=20))
    assert taken / 1_000 < 10e-6


@pytest.fixture(scope="module")
def buckets() -> np.ndarray:
    """Buckets of a million entities in two rollouts, shape (2, 1,000,000)."""
    names = [f"customer-{i}" for i in range(MILLION)]
    return np.array([[bucket(name, "salt", rollout) for name in names] for rollout in ("1", "2")])


@pytest.mark.statistical
@pytest.mark.parametrize("share", [10, 100, 500, 2_500, 5_000])
@pytest.mark.parametrize("start", [0, CONTROL_START])
def test_shares_of_a_million_entities_are_as_right_as_chance_allows(
    buckets: np.ndarray, share: int, start: int
) -> None:
    # Four standard errors: 0.09 points for 5% of the traffic, 0.2 for half of it. No hash that
    # knows nothing of the other entities comes closer.
    p = share / BUCKETS
    found = ((buckets >= start) & (buckets < start + share)).mean(axis=1)
    assert np.abs(found - p).max() < 4 * (p * (1 - p) / MILLION) ** 0.5


@pytest.mark.statistical
def test_buckets_of_a_million_entities_are_even(buckets: np.ndarray) -> None:
    from scipy.stats import chisquare

    counts = [np.bincount(of_rollout, minlength=BUCKETS) for of_rollout in buckets]
    assert all(chisquare(count).pvalue > 0.001 for count in counts)


@pytest.mark.statistical
def test_two_rollouts_draw_their_arms_independently(buckets: np.ndarray) -> None:
    from scipy.stats import chi2_contingency

    tenths = np.histogram2d(*(buckets // 1_000), bins=10)[0]
    assert chi2_contingency(tenths).pvalue > 0.001
