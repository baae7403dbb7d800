"""What becomes of a rollout: by its policy and what was counted, and never without evidence."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.core.sequential import Sums
from mlops_assets.rollouts.canary import CanaryCall
from mlops_assets.serving_policy import RolloutPolicy
from mlops_assets.spec import Metric, ModelSpec
from mlops_assets.stores.rollouts import Counted
from mlops_assets_tests.rollouts.canary_world import (
    arms,
    at_step,
    flags,
    labels,
    said,
    spec_in,
    spread,
)
from mlops_assets_tests.shop_world import returns

MANY = 40_000


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    return spec_in(tmp_path)


def test_without_evidence_it_holds(spec: ModelSpec) -> None:
    for rollout in (at_step(None), at_step(0), at_step(3)):
        assert said(spec, rollout).move == "hold"


def test_a_shadow_that_does_no_harm_advances(spec: ModelSpec) -> None:
    found = said(spec, at_step(None), arms(MANY, stage="shadow", other="champion"), minutes=0)
    assert found.move == "advance"
    assert {one.guardrail for one in found.readings} == {"errors", "score"}


def test_a_shadow_needs_its_rows(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, shadow_rows=50_000)
    found = said(spec, at_step(None), arms(MANY, stage="shadow", other="champion"))
    assert (found.move, "40,000 of at least 50,000" in found.reason) == ("hold", True)


@pytest.mark.parametrize("harm", [{"errors": 0.2}, {"score": 0.3}, {"score": -0.3}])
def test_a_shadow_that_does_harm_is_aborted(spec: ModelSpec, harm: dict[str, float]) -> None:
    found = said(spec, at_step(None), arms(2_000, stage="shadow", other="champion", **harm))
    assert found.move == "abort"
    assert next(iter(harm)) in found.reason


def test_what_the_shadow_did_is_no_evidence_for_the_canary(spec: ModelSpec) -> None:
    assert said(spec, at_step(0), arms(MANY, stage="shadow", other="champion")).move == "hold"


def test_what_the_champion_did_beside_the_shadow_excuses_no_canary(spec: ModelSpec) -> None:
    bad = {Counted("shadow", "champion", "errors", "w1"): flags(100_000, 0.3)}
    assert said(spec, at_step(0), arms(2_000, errors=0.2), bad).move == "abort"


def test_a_canary_that_is_surely_worse_and_seems_worse_than_accepted_is_aborted(
    spec: ModelSpec,
) -> None:
    found = said(spec, at_step(0), arms(4_000, errors=0.01))
    assert (found.move, found.readings[0].finding) == ("abort", "open")
    assert found.reason.startswith("more errors than the control, at odds of")
    found = said(spec, at_step(0), arms(10_000, slow=0.025))
    assert (found.move, found.readings[2].finding) == ("abort", "open")
    assert found.reason.startswith("surely worse than the control: slow")
    # As much worse as is accepted is no alarm, however sure it is.
    assert said(spec, at_step(0), arms(400_000, errors=0.0045)).move != "abort"


def test_arms_that_were_not_drawn_with_equal_odds_are_compared_by_their_shares(
    spec: ModelSpec,
) -> None:
    uneven = arms(4_000, errors=0.01)
    assert said(spec, at_step(1, (5, 80, 100)), uneven).move == "hold"
    shadow = arms(2_000, stage="shadow", other="champion", errors=0.01)
    assert said(spec, at_step(None), shadow).move == "hold"


def test_a_canary_that_does_no_harm_advances(spec: ModelSpec) -> None:
    found = said(spec, at_step(0), arms(MANY))
    assert found.move == "advance"
    findings = {one.guardrail: one.finding for one in found.readings}
    assert {findings[name] for name in ("errors", "score", "slow")} == {"no harm"}
    assert findings["calibration"] == "open"
    assert found.evidence["readings"]["errors"]["canary"]["n"] == MANY


@pytest.mark.parametrize("harm", [{"errors": 0.2}, {"slow": 0.3}, {"score": 0.3}, {"score": -0.3}])
@pytest.mark.parametrize("step", [0, 2, 3])
def test_harm_to_any_guardrail_aborts_at_any_step(
    spec: ModelSpec, step: int, harm: dict[str, float]
) -> None:
    found = said(spec, at_step(step), arms(2_000, **harm), minutes=0)
    assert found.move == "abort"
    assert found.reason.startswith(next(iter(harm)))
    assert [one.guardrail for one in found.readings if one.finding == "harm"] == [*harm]


def test_better_is_no_harm_but_for_a_shift_of_scores(spec: ModelSpec) -> None:
    assert said(spec, at_step(0), arms(MANY, errors=-0.004, slow=-0.009)).move == "advance"


def test_it_needs_enough_rows_of_each_arm(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, least_rows=MANY + 1)
    assert said(spec, at_step(0), arms(MANY)).move == "hold"
    assert said(spec, at_step(0), arms(MANY + 1)).move == "advance"


def test_a_step_lasts_its_least_time(spec: ModelSpec) -> None:
    found = said(spec, at_step(0), arms(MANY), minutes=9.9)
    assert (found.move, found.reason) == ("hold", "a step lasts at least 10 minutes")
    assert not found.needs_person
    assert said(spec, at_step(0), arms(MANY), minutes=10).move == "advance"


def test_what_is_not_decided_in_the_longest_time_needs_a_person(spec: ModelSpec) -> None:
    for minutes, person in ((60 * 71, False), (60 * 73, True)):
        found = said(spec, at_step(0), arms(100), minutes=minutes)
        assert (found.move, found.needs_person) == ("hold", person)


def test_an_empty_control_holds(spec: ModelSpec) -> None:
    alone = {key: sums for key, sums in arms(MANY).items() if key.arm == "canary"}
    assert said(spec, at_step(0), alone).move == "hold"


def test_a_broken_split_decides_nothing(spec: ModelSpec) -> None:
    uneven = {"entities": (24_000, 20_000)}
    for sums in (arms(MANY, **uneven), arms(MANY, **uneven, errors=0.2)):  # type: ignore[arg-type]
        found = said(spec, at_step(0), sums)
        assert (found.move, "broken split" in found.reason) == ("hold", True)
    harm = labels(MANY, brier=0.2)
    assert said(spec, at_step(2), arms(MANY, **uneven), harm).move == "hold"  # type: ignore[arg-type]


def test_the_split_is_judged_by_the_worker_that_saw_the_most(spec: ModelSpec) -> None:
    few = arms(10, source="w2", entities=(10, 0))
    assert said(spec, at_step(0), arms(MANY), few).move == "advance"


def test_the_sums_of_all_workers_count(tmp_path: Path) -> None:
    spec = spec_in(tmp_path, least_rows=MANY)
    half = [arms(MANY // 2, source=source) for source in ("w1", "w2")]
    assert said(spec, at_step(0), half[0]).move == "hold"
    assert said(spec, at_step(0), *half).move == "advance"


def test_a_paused_rollout_is_left_alone_whatever_is_seen(spec: ModelSpec) -> None:
    paused = replace(at_step(0), state="paused")
    found = said(spec, paused, arms(MANY, errors=0.5))
    assert found == CanaryCall("hold", "it is paused", needs_person=True)
    done = replace(at_step(3), state="done")
    assert said(spec, done) == CanaryCall("hold", "it is done")


def test_above_half_the_rest_is_the_control(spec: ModelSpec) -> None:
    found = said(spec, at_step(1, (5, 80, 100)), arms(MANY, other="champion"), labels(MANY))
    assert found.move == "advance"


@pytest.mark.parametrize(
    ("step", "steps", "waits"),
    [
        (0, (5, 25, 50, 100), False),
        (1, (5, 25, 50, 100), False),
        (2, (5, 25, 50, 100), True),
        (3, (5, 25, 50, 100), True),
        (0, (5, 60, 100), True),
        (0, (100,), True),
        (None, (5, 100), False),
        (None, (60, 100), True),
    ],
)
def test_more_than_half_of_the_traffic_needs_labels(
    spec: ModelSpec, tmp_path: Path, step: int | None, steps: tuple[float, ...], waits: bool
) -> None:
    stage = {"stage": "shadow", "other": "champion"} if step is None else {}
    rollout, counts = at_step(step, steps), arms(MANY, **stage)  # type: ignore[arg-type]
    assert said(spec, rollout, counts).move == ("hold" if waits else "advance")
    free = spec_in(tmp_path / "free", labels=0)
    assert said(free, rollout, counts).move == "advance"
    if step is not None:
        assert said(spec, rollout, counts, labels(MANY)).move == "advance"


@pytest.mark.parametrize("harm", [{"outside": 0.2}, {"brier": 0.1}, {"calibration": 0.15}])
@pytest.mark.parametrize("waits", [2_000, 0])
def test_harm_by_labels_aborts_at_any_share(
    tmp_path: Path, harm: dict[str, float], waits: int
) -> None:
    spec = spec_in(tmp_path, labels=waits)
    found = said(spec, at_step(0), arms(MANY), labels(MANY, **harm))
    assert (found.move, next(iter(harm)) in found.reason) == ("abort", True)


def test_a_canary_that_is_barely_calibrated_stays_at_half(spec: ModelSpec) -> None:
    near = labels(12_000, calibration=0.045)
    assert said(spec, at_step(1), arms(MANY), near).move == "advance"
    found = said(spec, at_step(2), arms(MANY), near)
    assert (found.move, "calibration" in found.reason) == ("hold", True)


def test_few_labels_are_not_enough(spec: ModelSpec) -> None:
    assert said(spec, at_step(2), arms(MANY), labels(1_200)).move == "hold"


def test_a_regression_is_judged_by_its_unit_and_its_coverage(spec: ModelSpec) -> None:
    from mlops_assets.serving_policy import RolloutPolicy

    policy = RolloutPolicy(score_shift=10.0)
    regression = spec.model_copy(update={"task": "regression", "rollout": policy})

    def minutes(shift: float) -> dict[Counted, Sums]:
        found = arms(MANY)
        for arm, mean in (("canary", 90 + shift), ("control", 90.0)):
            sums = Sums(MANY, MANY * mean, MANY * (mean**2 + 40**2))
            found[Counted("traffic", arm, "score", "w1")] = sums
        return found

    assert said(regression, at_step(0), minutes(2)).move == "advance"
    assert said(regression, at_step(0), minutes(-20)).move == "abort"
    covered = {
        Counted("traffic", arm, "outside", "labels"): flags(MANY, 0.1)
        for arm in ("canary", "control")
    }
    assert said(regression, at_step(3), minutes(0)).move == "hold"
    assert said(regression, at_step(3), minutes(0), covered).move == "advance"


def test_infinite_bounds_are_not_kept(spec: ModelSpec) -> None:
    regression = spec.model_copy(update={"task": "regression"})
    evidence = said(regression, at_step(0), arms(5)).evidence["readings"]["score"]
    assert "low" not in evidence
    assert "high" not in evidence
    assert evidence["finding"] == "open"


def guarded(folder: Path, better: Any) -> ModelSpec:
    """A model whose canary may lose half a unit of revenue."""
    metrics = (Metric(name="revenue", better=better),)
    return returns(folder, metrics=metrics, rollout=RolloutPolicy(metrics={"revenue": 0.5}))


def revenue(canary: float, control: float, n: int = MANY) -> dict[Counted, Sums]:
    return {
        Counted("traffic", arm, "metric.revenue", "labels"): spread(n, mean, sd=5.0)
        for arm, mean in (("canary", canary), ("control", control))
    }


@pytest.mark.parametrize(
    ("better", "canary", "move"),
    [
        ("higher", 9.0, "abort"),
        ("higher", 10.0, "advance"),
        ("higher", 12.0, "advance"),
        ("lower", 11.0, "abort"),
        ("lower", 9.0, "advance"),
    ],
)
def test_what_the_business_counts_guards_the_canary(
    tmp_path: Path, better: str, canary: float, move: str
) -> None:
    spec = guarded(tmp_path, better)
    sums = (arms(MANY), labels(MANY), revenue(canary, 10.0))
    found = said(spec, at_step(1), *sums)
    assert found.move == move
    assert any("revenue" in one.guardrail for one in found.readings)


def test_a_metric_that_nobody_sends_keeps_the_canary_below_half(tmp_path: Path) -> None:
    spec = guarded(tmp_path, "higher")
    assert said(spec, at_step(0), arms(MANY), labels(MANY)).move == "advance"
    found = said(spec, at_step(2), arms(MANY), labels(MANY))
    assert (found.move, "less revenue" in found.reason) == ("hold", True)
