"""The join of predictions with labels is that of a brute-force oracle, and loses nothing."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.monitoring.labels import deliveries, read_labelled
from mlops_assets.stores.inference_compaction import compact
from mlops_assets.stores.inference_log import InferenceLog, Prediction
from mlops_assets.stores.outcomes_log import Outcome
from mlops_assets_tests.monitoring.world import DAY, NOW, START, World, date, made

HOUR = dt.timedelta(hours=1)

# Where a prediction is made, and by what a label names it; collisions are what is looked for.
PREDICTED = st.lists(st.tuples(st.integers(0, 30), st.sampled_from("ab")), min_size=1, max_size=4)
DELIVERED = st.lists(
    st.tuples(
        st.sampled_from(["id", "shop", "shop and order", "order"]),
        st.integers(0, 4),  # which prediction, or none
        st.integers(0, 60),  # hour at which it is known
        st.sampled_from([0, 1, 5, "text"]),
    ),
    min_size=1,
    max_size=8,
)


def logged(world: World, predicted: list[tuple[int, str]]) -> list[Prediction]:
    log = InferenceLog(world.platform.settings.root / "inference_log", "w")
    outputs = {"probability": 0.5, "negative_in_set": True, "positive_in_set": True}
    found = [
        Prediction(
            id=f"p{i}",
            time=START + hour * HOUR,
            model=world.spec.name,
            version="1",
            arm="a",
            entity={"shop": shop, "item": "tea", "order_id": f"o{hour % 2}"},
            features={},
            event_times={},
            statuses={},
            outputs=outputs,
            latency_ms=1.0,
        )
        for i, (hour, shop) in enumerate(predicted)
    ]
    log.append_all(found)
    log.close()
    compact(world.platform.settings.root / "inference_log", world.platform.lake)
    return found


def named(
    how: str, which: Prediction | None, known: dt.datetime, label: Any, model: str
) -> Outcome:
    if how == "id":
        return Outcome(model, label, known, which.id if which else "nobody")
    entity = dict(which.entity) if which else {"shop": "z", "order_id": "z"}
    keys = {"shop": ("shop",), "order": ("order_id",), "shop and order": ("shop", "order_id")}[how]
    at = which.time if which else START
    return Outcome(model, label, known, None, {key: entity[key] for key in keys}, at)


def belongs(outcome: Outcome, one: Prediction) -> bool:
    if outcome.prediction_id is not None:
        return outcome.prediction_id == one.id
    entity = outcome.entity or {}
    return outcome.time == one.time and all(one.entity.get(k) == v for k, v in entity.items())


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(predicted=PREDICTED, delivered=DELIVERED, hours=st.integers(0, 60))
def test_the_newest_label_that_is_known_counts_by_id_or_by_entity_and_time(
    tmp_path_factory: pytest.TempPathFactory,
    predicted: list[tuple[int, str]],
    delivered: list[tuple[str, int, int, Any]],
    hours: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        world = made(tmp_path_factory.mktemp("world"), patch)
        made_of = logged(world, predicted)
        found = [
            named(how, made_of[which] if which < len(made_of) else None, START + hour * HOUR,
                  label, world.spec.name)
            for how, which, hour, label in delivered
        ]  # fmt: skip
        world.deliver(found)
        as_of = START + hours * HOUR
        table = read_labelled(world.platform, world.spec, [date(0), date(1)], as_of)
        rows = table.to_pylist() if table is not None else []
        by_id = {row["prediction_id"]: (row["label"], row["known_at"]) for row in rows}
        expected: dict[str, Any] = {}
        for one in made_of:
            mine = [
                (o.known_at, float(o.label))
                for o in found
                if o.label in (0, 1) and o.known_at <= as_of and belongs(o, one)
            ]
            known_at, label = max(mine, default=(None, None))
            expected[one.id] = (label, known_at)
        assert by_id == expected
        for number in range(3):
            of_day = [o for o in found if o.known_at.date() == date(number) and o.known_at <= as_of]
            counts = deliveries(world.platform, world.spec, date(number), as_of)
            unknown = [o for o in of_day if not any(belongs(o, one) for one in made_of)]
            assert (counts.labels, counts.unknown) == (len(of_day), len(unknown))
            assert counts.unusable == sum(o.label not in (0, 1) for o in of_day)


def test_a_label_for_an_unknown_prediction_is_counted_and_shown(world: World) -> None:
    world.label(world.predict(0, 120))
    world.deliver([Outcome(world.spec.name, 1, START + HOUR, "nobody")])
    rows = [r for r in world.day(0)["performance"] if r["version"] == "none"]
    assert {r["metric"]: r["value"] for r in rows} == {
        "labels_delivered": 121.0, "unknown_labels": 1.0, "unusable_labels": 0.0,
        "stray_records": 0.0,
    }  # fmt: skip


def test_a_label_that_becomes_known_later_on_the_day_is_not_there_yet(world: World) -> None:
    world.label(world.predict(0, 120), after=5 * HOUR)
    for hours, missing in ((4, 120), (6, 0)):
        table = read_labelled(world.platform, world.spec, [date(0)], START + hours * HOUR)
        assert table is not None
        assert table["label"].null_count == missing


def test_labels_of_other_models_are_not_ours(world: World) -> None:
    rows = world.predict(0, 120)
    world.deliver([Outcome("other", 1, START + HOUR, row["id"]) for row in rows])
    assert deliveries(world.platform, world.spec, date(0), NOW).labels == 0
    table = read_labelled(world.platform, world.spec, [date(0)], NOW)
    assert table is not None
    assert table["label"].null_count == 120


def test_a_label_long_after_its_prediction_belongs_to_none(world: World) -> None:
    policy = world.spec.monitoring.model_copy(update={"label_days": 2})
    world.spec = world.spec.model_copy(update={"monitoring": policy})
    (row, *_) = world.predict(0, 120)
    world.deliver([Outcome(world.spec.name, 1, START + 4 * DAY, row["id"])])
    assert deliveries(world.platform, world.spec, date(4), NOW).unknown == 1
    table = read_labelled(world.platform, world.spec, [date(0)], NOW)
    assert table is not None
    assert table["label"].null_count == 120


def test_without_any_file_there_is_nothing(world: World, tmp_path: Path) -> None:
    assert read_labelled(world.platform, world.spec, [date(0)], NOW) is None
