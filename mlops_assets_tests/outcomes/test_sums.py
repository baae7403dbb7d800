"""Sums of arms on labels and values: one observation per entity, the last of what was told."""

from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.core import live_calibration
from mlops_assets.core.rollout import Rollout
from mlops_assets.core.sequential import Sums
from mlops_assets.outcomes.sums import sums_of
from mlops_assets.rollouts import moves
from mlops_assets.stores.rollouts import Counted
from mlops_assets_tests.experiments.experiment_world import (
    begun,
    log,
    platform_in,
    served,
    spec_in,
    told,
)

CANARY = Rollout("r", "2", "r", (5, 100), state="canary", step=0)
CANARY_ARMS = ("canary", "control")
HOUR = timedelta(hours=1)
row = st.fixed_dictionaries(
    {
        "entity": st.sampled_from(["", "a", "b", "c"]),
        "arm": st.sampled_from(["canary", "control", "champion", "shadow"]),
        "hours": st.integers(0, 99),
        "status": st.sampled_from(["ok", "ok", "refused"]),
        "score": st.sampled_from([0.05, 0.3, 0.6, 0.9]),
    }
)
outcome = st.fixed_dictionaries(
    {
        "of": st.integers(0, 9),
        "hours": st.integers(0, 99),
        "label": st.sampled_from([None, 0, 1, 7]),
        "revenue": st.sampled_from([None, -1.0, 2.0, 4.0]),
    }
)


def by_hand(rows: list[Any], outcomes: list[Any]) -> dict[tuple[str, str], list[float]]:
    """Observations by arm and number, by brute force."""
    firsts: dict[Any, int] = {}
    for i in sorted(range(len(rows)), key=lambda i: (rows[i]["hours"], f"p{i}")):
        one = rows[i]
        if one["arm"] in CANARY_ARMS and one["status"] == "ok":
            firsts.setdefault((one["arm"], one["entity"] or i), i)
    found = defaultdict(list)
    for (arm, _), i in firsts.items():
        mine = [one for one in outcomes if one["of"] == i]
        labels = [(one["hours"], one["label"]) for one in mine if one["label"] in (0, 1)]
        values = [(one["hours"], one["revenue"]) for one in mine if one["revenue"] is not None]
        if labels:
            label, score = max(labels)[1], rows[i]["score"]
            found[arm, "brier"].append((score - label) ** 2)
            found[arm, "outside"].append(float(label == 1))  # the set is always {0}
            bin_ = live_calibration.bin_of(score)
            found[arm, f"calibration.{bin_}"].append(score - label)
        if values:
            found[arm, "metric.revenue"].append(max(values)[1])
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.lists(row, max_size=10), st.lists(outcome, max_size=10), st.booleans())
def test_sums_are_those_of_brute_force(
    tmp_path_factory: pytest.TempPathFactory, rows: Any, outcomes: Any, compacted: bool
) -> None:
    folder = tmp_path_factory.mktemp("oracle")
    platform, spec = platform_in(folder), spec_in(folder)
    said = {"negative_in_set": True, "positive_in_set": False}
    log(
        platform,
        [
            served(f"p{i}", one["entity"], one["arm"], one["hours"], status=one["status"],
                   outputs={"probability": one["score"], **said})
            for i, one in enumerate(rows)
        ],
        [
            told(f"p{one['of']}", one["hours"], one["label"],
                 **({} if one["revenue"] is None else {"revenue": one["revenue"]}))
            for one in outcomes
            if (one["label"], one["revenue"]) != (None, None)
        ],
        compacted=compacted,
    )  # fmt: skip
    found = sums_of(platform, spec, begun(platform, CANARY))
    wanted = {
        Counted("traffic", arm, number, "labels"): Sums.of(values)
        for (arm, number), values in by_hand(rows, outcomes).items()
    }
    assert found.keys() == wanted.keys()
    for key, sums in wanted.items():
        assert found[key].n == sums.n
        assert found[key].total == pytest.approx(sums.total, abs=1e-12)
        assert found[key].squares == pytest.approx(sums.squares, abs=1e-12)


@pytest.mark.parametrize(
    ("step", "arms"),
    [(0, {"canary", "control"}), (1, {"canary", "control", "champion"})],
)
def test_the_champion_is_summed_only_where_no_control_is_left(
    tmp_path: Path, step: int, arms: set[str]
) -> None:
    platform, spec = platform_in(tmp_path), spec_in(tmp_path)
    kept = begun(platform, Rollout("r", "2", "r", (50, 75, 100), state="canary", step=step))
    log(
        platform,
        [served(arm, arm, arm) for arm in ("canary", "control", "champion")],
        [told(arm, 2, 1) for arm in ("canary", "control", "champion")],
    )
    assert {counted.arm for counted in sums_of(platform, spec, kept)} == arms


def test_what_the_champion_said_counts_from_the_step_above_half_on_whatever_comes_later(
    tmp_path: Path,
) -> None:
    platform, spec = platform_in(tmp_path, now=None), spec_in(tmp_path)
    begun(platform, Rollout("r", "2", "r", (50, 75, 100), state="canary", step=0))
    who = {"actor": "ann", "reason": "why"}
    wide = moves.move(platform, spec, "advance", **who)
    times = {"before": -HOUR, "after": HOUR}
    log(
        platform,
        [served(n, n, "champion", time=wide.entered + by) for n, by in times.items()],
        [told(name, 2, 1) for name in times],
    )
    moves.move(platform, spec, "pause", **who)
    later = moves.move(platform, spec, "resume", **who)
    assert later.entered > wide.entered
    [brier] = [one for key, one in sums_of(platform, spec, later).items() if key.number == "brier"]
    assert brier.n == 1


def test_a_regression_has_no_brier(tmp_path: Path) -> None:
    platform, spec = platform_in(tmp_path), spec_in(tmp_path, task="regression")
    outputs = {"forecast": 5.0, "low": 4.0, "high": 6.0}
    log(platform, [served("p", "a", "canary", outputs=outputs)], [told("p", 2, 7.5)])
    found = sums_of(platform, spec, begun(platform, CANARY))
    assert found == {Counted("traffic", "canary", "outside", "labels"): Sums(1, 1.0, 1.0)}


def test_what_was_predicted_before_it_began_does_not_count(tmp_path: Path) -> None:
    platform, spec = platform_in(tmp_path), spec_in(tmp_path)
    log(platform, [served("p", "a", "canary", -1)], [told("p", 2, 1)])
    assert not sums_of(platform, spec, begun(platform, CANARY))


def test_of_an_entity_the_first_prediction_counts_and_only_once_it_is_known(
    tmp_path: Path,
) -> None:
    platform, spec = platform_in(tmp_path), spec_in(tmp_path)
    log(
        platform,
        [served("late", "a", "canary", 5), served("first", "a", "canary", 1),
         served("waits", "b", "canary", 1), served("known", "b", "canary", 2)],
        [told("late", 6, 1, revenue=9), told("first", 7, 0, revenue=2), told("known", 8, 1)],
    )  # fmt: skip
    found = {
        key.number: one for key, one in sums_of(platform, spec, begun(platform, CANARY)).items()
    }
    assert found["outside"] == Sums(1, 0.0, 0.0)
    assert found["metric.revenue"] == Sums(1, 2.0, 4.0)
