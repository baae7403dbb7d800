"""What entities brought, out of the logs: against sums by hand, over time and by slice."""

import datetime as dt
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.core.experiment_analysis import Aim, Observed
from mlops_assets.errors import DataError
from mlops_assets.experiments.data import Window, observe
from mlops_assets.serving_policy import ServingPolicy
from mlops_assets.spec import Slice
from mlops_assets.stores.inference_log import Mask
from mlops_assets.stores.outcomes_log import OUTCOMES
from mlops_assets_tests.experiments.experiment_world import (
    ARMS,
    MINUTES,
    NOW,
    REVENUE,
    START,
    at,
    log,
    platform_in,
    served,
    spec_in,
    told,
)

AIMS = tuple(Aim(**one.model_dump(exclude={"column"})) for one in (REVENUE, MINUTES))
WINDOW = Window(START, None, NOW)
HOURS = 10 * 24
ARM_OF = {"": "old", "a": "old", "b": "old", "c": "new", "d": "new"}


def seen(folder: Path, predictions: Any, outcomes: Any, **change: Any) -> Observed:
    platform = platform_in(folder)
    log(platform, predictions, outcomes, compacted=change.pop("compacted", False),
        masks=change.pop("masks", None))  # fmt: skip
    window, looks = change.pop("window", WINDOW), change.pop("looks", 10)
    return observe(platform, spec_in(folder, **change), ARMS, AIMS, window, looks=looks)


def brought(found: Observed, metric: str, arm: str, look: int = -1) -> tuple[int, float, int]:
    one = found.metrics[metric][look].get(arm)
    return (one.sums.n, one.sums.total, one.values) if one else (0, 0.0, 0)


prediction = st.fixed_dictionaries(
    {
        "entity": st.sampled_from(["", "a", "b", "c", "d"]),
        # Few entities are in several arms, or else none would be left.
        "arm": st.sampled_from(["", "", "", "", "", "old", "new", "champion"]),
        "hours": st.sampled_from([0, 1, 24, 30, 100]),
        "status": st.sampled_from(["ok", "ok", "ok", "refused"]),
        "size": st.sampled_from([1, 2]),
    }
)
delivery = st.fixed_dictionaries(
    {
        "of": st.integers(-1, 9),
        "by_entity": st.booleans(),
        "hours": st.sampled_from([0, 23, 24, 25, 48, 101, HOURS - 1]),
        "values": st.dictionaries(
            st.sampled_from(["revenue", "minutes", "other"]), st.integers(-5, 20), min_size=1
        ),
        "label": st.sampled_from([None, 0, 1]),
    }
)


def oracle(
    rows: list[dict[str, Any]], outcomes: list[dict[str, Any]], metric: Aim, until: float
) -> dict[str, tuple[int, float, float, int]]:
    """By arm: entities, sum and sum of squares of what they brought, and values; by brute force."""
    arms_of = defaultdict(set)
    for i, row in enumerate(rows):
        if row["arm"] != "champion":
            arms_of[row["entity"] or i].add(row["arm"])
    by_unit: dict[Any, list[float]] = defaultdict(list)
    for i, row in enumerate(rows):
        unit = row["entity"] or i
        if row["status"] != "ok" or arms_of[unit] not in ({"old"}, {"new"}):
            continue
        if row["arm"] == "champion":
            continue
        last = max(
            (
                (max(one["hours"], row["hours"]), one["hours"], one["values"][metric.name])
                for one in outcomes
                if metric.name in one["values"]
                and max(one["hours"], row["hours"]) <= until
                and belongs(one, i, rows)
            ),
            default=None,
            key=lambda found: found[1:],
        )
        if last is not None:
            by_unit[row["arm"], unit].append(last[2])
    found = {}
    for arm in ("old", "new"):
        each = [values for (name, _), values in by_unit.items() if name == arm]
        totals = [sum(v) / (len(v) if metric.per_entity == "mean" else 1) for v in each]
        found[arm] = len(each), sum(totals), sum(t * t for t in totals), sum(map(len, each))
    return found


def belongs(one: dict[str, Any], i: int, rows: list[dict[str, Any]]) -> bool:
    if not 0 <= one["of"] < len(rows):
        return False
    if not one["by_entity"]:
        return one["of"] == i
    named = rows[one["of"]]
    return bool(named["entity"]) and all(named[k] == rows[i][k] for k in ("entity", "hours"))


def logged_outcomes(rows: list[dict[str, Any]], outcomes: list[dict[str, Any]]) -> list[Any]:
    found = []
    for one in outcomes:
        if not one["values"] and one["label"] is None:
            continue
        outcome = told(f"p{one['of']}", one["hours"], one["label"], **one["values"])
        if one["by_entity"]:
            if not (0 <= one["of"] < len(rows) and rows[one["of"]]["entity"]):
                continue
            row = rows[one["of"]]
            fields = {"prediction_id": None, "time": at(row["hours"])}
            entity = {"shop": row["entity"], "item": "tea"}
            outcome = replace(outcome, entity=entity, **fields)
        found.append(outcome)
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(
    st.lists(prediction, min_size=6, max_size=10),
    st.lists(delivery, min_size=6, max_size=16),
    st.booleans(),
)
def test_sums_at_every_look_are_those_of_brute_force(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    outcomes: list[dict[str, Any]],
    compacted: bool,
) -> None:
    folder = tmp_path_factory.mktemp("oracle")
    rows = [{**row, "arm": row["arm"] or ARM_OF[row["entity"]]} for row in rows]
    predictions = [
        served(f"p{i}", row["entity"], row["arm"], row["hours"], status=row["status"])
        for i, row in enumerate(rows)
    ]
    found = seen(folder, predictions, logged_outcomes(rows, outcomes), compacted=compacted)
    for aim in AIMS:
        for look, by_arm in enumerate(found.metrics[aim.name]):
            wanted = oracle(rows, outcomes, aim, (look + 1) * 24)
            for arm, (n, total, squares, values) in wanted.items():
                one = by_arm.get(arm)
                assert (one.sums.n if one else 0) == n
                assert (one.values if one else 0) == values
                if one:
                    assert one.sums.total == pytest.approx(total, abs=1e-9)
                    assert one.sums.squares == pytest.approx(squares, abs=1e-9)


def test_an_entity_that_comes_often_is_one_observation(tmp_path: Path) -> None:
    predictions = [served(f"p{i}", "a", "old") for i in range(5)]
    found = seen(tmp_path, predictions, [told(f"p{i}", revenue=2) for i in range(5)])
    assert brought(found, "revenue", "old") == (1, 10.0, 5)
    assert found.entities == {"old": 1}


def test_a_repeated_value_counts_as_it_was_told_last_and_history_as_it_was_known(
    tmp_path: Path,
) -> None:
    outcomes = [told("p", 30, revenue=5), told("p", 2, revenue=1)]
    found = seen(tmp_path, [served("p", "a", "new")], outcomes)
    looks = [brought(found, "revenue", "new", look)[1] for look in range(3)]
    assert looks == [1.0, 5.0, 5.0]


def test_a_late_value_is_counted_after_the_stop(tmp_path: Path) -> None:
    window = Window(START, at(5), NOW)
    predictions = [served("p", "a", "old", 1), served("late", "b", "old", 6)]
    outcomes = [told("p", 100, revenue=3), told("late", 100, revenue=9)]
    found = seen(tmp_path, predictions, outcomes, window=window)
    assert brought(found, "revenue", "old") == (1, 3.0, 1)


def test_values_of_unknown_predictions_and_of_other_models_count_nowhere(tmp_path: Path) -> None:
    outcomes = [told("nobody", revenue=1), told("p", revenue=2)]
    found = seen(tmp_path, [served("p", "a", "old", model="other")], outcomes)
    assert brought(found, "revenue", "old") == (0, 0.0, 0)
    assert not found.entities


def test_an_entity_in_two_arms_is_left_out_and_told(tmp_path: Path) -> None:
    predictions = [served("p", "a", "old"), served("q", "a", "new"), served("r", "b", "new")]
    found = seen(tmp_path, predictions, [told(name, revenue=1) for name in "pqr"])
    assert (found.crossed, found.entities) == (1, {"new": 1})


def test_an_arm_of_the_same_name_with_another_version_is_of_another_experiment(
    tmp_path: Path,
) -> None:
    found = seen(tmp_path, [served("p", "a", "old", version="7")], [told("p", revenue=1)])
    assert not found.entities


def test_a_refused_prediction_has_no_value_but_its_entity_was_served(tmp_path: Path) -> None:
    found = seen(tmp_path, [served("p", "a", "old", status="refused")], [told("p", revenue=1)])
    assert (found.entities, brought(found, "revenue", "old")) == ({"old": 1}, (0, 0.0, 0))


def test_predictions_without_an_entity_are_each_their_own(tmp_path: Path) -> None:
    found = seen(tmp_path, [served("p", "", "old"), served("q", "", "old")], ())
    assert found.entities == {"old": 2}


def test_hashed_keys_still_tell_entities_apart(tmp_path: Path) -> None:
    masks = {"returns": Mask(frozenset({"shop"}), key=bytes(16))}
    predictions = [served(f"p{i}", "ab"[i % 2], "old") for i in range(4)]
    assert seen(tmp_path, predictions, (), masks=masks).entities == {"old": 2}


def test_dropped_keys_are_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no data: the log of 'returns' drops shop"):
        seen(tmp_path, (), (), serving=ServingPolicy(dropped=("shop",)))


def test_levels_of_a_slice_have_the_entities_that_were_in_them(tmp_path: Path) -> None:
    predictions = [
        served("p", "a", "old", features={"amount_last": 1.0}),
        served("q", "a", "old", features={"amount_last": 9.0}),
        served("r", "b", "new", features={"amount_last": 9.0}),
    ]
    outcomes = [told(name, revenue=value) for name, value in (("p", 1), ("q", 2), ("r", 4))]
    slices = (Slice(name="shop"), Slice(name="amount", column="amount_last", edges=(5,)))
    found = seen(tmp_path, predictions, outcomes, slices=slices).slices
    totals = {
        key[1:]: {arm: (one.sums.n, one.sums.total) for arm, one in by_arm.items()}
        for key, by_arm in found.items()
        if key[0] == "revenue"
    }
    assert totals == {
        ("shop", "a"): {"old": (1, 3.0)},
        ("shop", "b"): {"new": (1, 4.0)},
        ("amount", "below 5"): {"old": (1, 1.0)},
        ("amount", "5 and above"): {"old": (1, 2.0), "new": (1, 4.0)},
    }


def test_days_before_there_were_values_are_read_with_those_since(tmp_path: Path) -> None:
    platform, spec = platform_in(tmp_path), spec_in(tmp_path)
    predictions = [served(name, name, "old", 1) for name in "pqr"]
    log(platform, predictions, [told("p", 2, 1), told("q", 50, 1, revenue=5)], compacted=True)
    # The first day as it was written before, and a later one that lacks the column again.
    first = platform.lake.day_file(OUTCOMES.name, START.date())
    for shift in (4, 0):
        day = platform.lake.day_file(OUTCOMES.name, START.date() + dt.timedelta(days=shift))
        with platform.lake.connect() as connection:
            platform.lake.write(
                connection,
                'SELECT * EXCLUDE ("values") REPLACE (event_timestamp + '
                f"INTERVAL {shift} DAY AS event_timestamp) FROM read_parquet('{first}')",
                day,
            )
    log(platform, (), [told("r", 120, revenue=7)], compacted=True)
    found = observe(platform, spec, ARMS, AIMS, WINDOW)
    assert brought(found, "revenue", "old") == (2, 12.0, 2)
