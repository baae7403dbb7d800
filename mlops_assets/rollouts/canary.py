"""What becomes of an open rollout: its policy and all that was counted so far, in; a move, out.

Pure: no store and no clock. The statistics are in `core.guardrails`, the moves in
`mlops_assets.rollouts.moves`; who asks, and how often, is decided where it is served.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from math import exp, isfinite, log
from typing import TYPE_CHECKING, Any, Literal

from mlops_assets.core import live_calibration
from mlops_assets.core.guardrails import (
    LEVEL,
    SPLIT_LEVEL,
    Action,
    CanaryVerdict,
    Finding,
    Guardrail,
    Reading,
    verdict,
)
from mlops_assets.core.rollout import Rollout
from mlops_assets.core.routing import CANARY, CHAMPION, CONTROL, CONTROL_START
from mlops_assets.core.sequential import Sums, more_evidence
from mlops_assets.spec import ModelSpec

if TYPE_CHECKING:
    from mlops_assets.stores.rollouts import Counted

SHADOW_STAGE, TRAFFIC_STAGE = "shadow", "traffic"
SHADOW = "shadow"
"""Arm of what was scored in the background."""

ERRORS, SLOW, SCORE, ENTITIES = "errors", "slow", "score", "entities"
BRIER, OUTSIDE, CALIBRATION = "brier", "outside", "calibration"
"""Numbers that are counted of an arm; `CALIBRATION` has its bin behind a dot."""

METRIC = "metric"
"""Number of a metric, whose name stands behind a dot."""

MOST_BOUNDS = 10
"""Bounds that a rollout is judged by in all: each gets its part of the level from the start."""

UNUSED_BOUNDS = 2
"""Of these, those beyond errors and score in the shadow, errors, score and slow in traffic,
outside, brier and calibration; metrics use one."""

EXPECTED_ERRORS = 0.005

Call = Literal["advance", "abort", "hold"]
By = Mapping[tuple[str, str], Sums]


@dataclass(frozen=True, slots=True)
class CanaryCall:
    """What to do with a rollout now, and why.

    Args:
        move: `hold` leaves it as it is.
        reason: in words.
        readings: what the guardrails showed.
        split: log evidence against the planned split.
        needs_person: whether nothing will move without somebody.
    """

    move: Call
    reason: str
    readings: tuple[Reading, ...] = ()
    split: float = 0.0
    needs_person: bool = False

    @property
    def evidence(self) -> dict[str, Any]:
        """What the ledger keeps of it, without bounds that are infinite: JSON has none."""
        readings = {
            one.guardrail: {
                name: value
                for name, value in asdict(one).items()
                if not isinstance(value, float) or isfinite(value)
            }
            for one in self.readings
        }
        return {"readings": readings, "split": self.split} if readings else {}


def call(
    spec: ModelSpec,
    rollout: Rollout,
    sums: "Mapping[Counted, Sums]",
    *,
    entered: datetime,
    now: datetime,
) -> CanaryCall:
    """Decide on a rollout.

    Args:
        spec: the model, with its policy.
        rollout: the rollout.
        sums: all that was counted for it.
        entered: when it entered its state.
        now: the present.
    """
    if not rollout.is_open or rollout.state == "paused":
        return CanaryCall("hold", f"it is {rollout.state}", needs_person=rollout.is_open)
    policy, waited = spec.rollout, now - entered
    fast, labelled = _fast(spec, rollout, sums), _labelled(spec, rollout, sums)
    readings = (*fast.readings, *labelled.readings)
    broken = fast.split >= -log(SPLIT_LEVEL)
    # Arms that were not drawn alike cannot be compared, by labels no more than without.
    harms = [one for one in (fast, labelled) if one.action == "roll back" and not broken]
    waits = [one for one in (fast, labelled) if one.action == "hold"]
    if waits and waits[0] is labelled and not _beyond_half(rollout):
        waits = []

    def said(move: Call, *reasons: str, person: bool = False) -> CanaryCall:
        return CanaryCall(move, "; ".join(reasons), readings, fast.split, person)

    if harms:
        return said("abort", *(reason for one in harms for reason in one.reasons))
    alarms = [why for one in fast.readings if (why := _alarm(spec, rollout, one))]
    if alarms and not broken:
        return said("abort", *alarms)
    reasons = [reason for one in waits for reason in one.reasons]
    if waits and waited > timedelta(hours=policy.most_hours):
        hours = waited.total_seconds() / 3600
        return said("hold", f"no decision after {hours:.0f} h", *reasons, person=True)
    if waits:
        return said("hold", *reasons)
    if rollout.state == "canary" and waited < timedelta(minutes=policy.step_minutes):
        return said("hold", f"a step lasts at least {policy.step_minutes:g} minutes")
    return said("advance", *fast.reasons, *labelled.reasons)


def fast_guardrails(spec: ModelSpec, rollout: Rollout) -> list[Guardrail]:
    """What a rollout is judged by in its state, without labels."""
    policy, binary = spec.rollout, spec.task == "binary"
    in_shadow = rollout.state == "shadow"
    least = max(1, policy.shadow_rows) if in_shadow else policy.least_rows
    score = Guardrail(
        SCORE,
        policy.score_shift,
        kind="share" if binary else "mean",
        # The spread of forecasts is not known beforehand; a wrong one costs traffic only.
        expected=0.2 if binary else 20 * policy.score_shift,
        either_way=True,
        least_traffic=least,
    )
    found = [Guardrail(ERRORS, policy.errors, expected=EXPECTED_ERRORS, least_traffic=least), score]
    if not in_shadow:
        found.append(Guardrail(SLOW, policy.slow, expected=0.02, least_traffic=least))
    return found


def labelled_guardrails(spec: ModelSpec) -> list[Guardrail]:
    """What canary and control are compared by on rows whose labels are known."""
    policy, least = spec.rollout, max(1, spec.rollout.labels)
    found = [Guardrail(OUTSIDE, policy.coverage, expected=1 - spec.confidence, least_traffic=least)]
    if spec.task == "binary":
        # Squared errors vary far less than flags of the same mean, as which a share is bounded.
        found.append(Guardrail(BRIER, policy.brier, kind="mean", expected=0.2, least_traffic=least))
    return found


def _alarm(spec: ModelSpec, rollout: Rollout, reading: Reading) -> str:
    """Why a canary is surely worse at all, and by what is seen worse than is accepted; else empty.

    To be sure that a harm is above its margin takes many times the traffic, all of which is harmed.
    A canary that is no worse alarms with the same probability as a bound is wrong.
    """
    if reading.guardrail not in (ERRORS, SLOW) or reading.difference <= reading.margin:
        return ""
    if reading.low > 0:
        return f"surely worse than the control: {reading.reason}"
    if reading.guardrail == SLOW or rollout.state == "shadow" or rollout.share > CONTROL_START:
        return ""
    # The bounds that nobody uses leave their part of the level to what harms most.
    alpha = LEVEL * (UNUSED_BOUNDS - bool(spec.rollout.metrics)) / MOST_BOUNDS
    odds = more_evidence(reading.canary, reading.control)
    if odds < -log(alpha):
        return ""
    return f"more errors than the control, at odds of {exp(odds):,.0f} to 1: {reading.reason}"


def _beyond_half(rollout: Rollout) -> bool:
    """Whether the next move gives the canary more than half of the traffic, or all for good."""
    if rollout.state == "shadow" or rollout.step is None:
        return rollout.steps[0] * 2 > 100
    return rollout.at_last_step or rollout.steps[rollout.step + 1] * 2 > 100


def _fast(spec: ModelSpec, rollout: Rollout, sums: "Mapping[Counted, Sums]") -> CanaryVerdict:
    rails = fast_guardrails(spec, rollout)
    if rollout.state == "shadow":
        evidence = _pairs(rails, added(sums, SHADOW_STAGE), SHADOW, (CHAMPION,))
        return _judged(rails, evidence, (1, 1))
    by = added(sums, TRAFFIC_STAGE)
    drawn = [by.get((ENTITIES, arm), Sums()).n for arm in (CANARY, CONTROL)]
    return _judged(rails, _pairs(rails, by, CANARY, (CONTROL, CHAMPION)), (drawn[0], drawn[1]))


def _labelled(spec: ModelSpec, rollout: Rollout, sums: "Mapping[Counted, Sums]") -> CanaryVerdict:
    """The verdict on labels; it does not wait for any where the policy wants none."""
    rails, by = labelled_guardrails(spec), added(sums, TRAFFIC_STAGE)
    bins = {
        int(number.partition(".")[2]): one
        for (number, arm), one in by.items()
        if arm == CANARY and number.startswith(f"{CALIBRATION}.")
    }
    waits = spec.rollout.labels > 0
    if rollout.state == "shadow" and waits:
        # Asked only where the first step is more than half of the traffic.
        reason = "more than half of the traffic needs labels, and a shadow has none"
        return CanaryVerdict("hold", (reason,), (), 0.0)
    if rollout.state == "shadow" or not (waits or bins or (OUTSIDE, CANARY) in by):
        return CanaryVerdict("advance", (), (), 0.0)
    found = _judged(rails, _pairs(rails, by, CANARY, (CONTROL, CHAMPION)), (1, 1))
    if spec.task == "binary":
        found = _both(found, _calibrated(spec, bins))
    if spec.rollout.metrics:
        found = _both(found, _of_metrics(spec, by))
    if found.action == "hold" and not waits:
        return CanaryVerdict("advance", (), found.readings, 0.0)
    return found


def _both(one: CanaryVerdict, other: CanaryVerdict) -> CanaryVerdict:
    """The graver of two verdicts, for the reasons of those that say it."""
    action = min(one.action, other.action, key=("roll back", "hold", "advance").index)
    reasons = tuple(why for v in (one, other) if v.action == action for why in v.reasons)
    return CanaryVerdict(action, reasons, (*one.readings, *other.readings), 0.0)


def _calibrated(spec: ModelSpec, bins: Mapping[int, Sums]) -> CanaryVerdict:
    """The verdict on the calibration error of the canary itself."""
    found = live_calibration.reading(bins, spec.rollout.calibration, LEVEL / MOST_BOUNDS)
    actions: Mapping[Finding, Action] = {"harm": "roll back", "open": "hold", "no harm": "advance"}
    return CanaryVerdict(actions[found.finding], (found.reason,), (found,), 0.0)


def _of_metrics(spec: ModelSpec, by: By) -> CanaryVerdict:
    """The verdict on what the business counts; all metrics share the level of one bound."""
    better = {metric.name: metric.better for metric in spec.metrics}
    rails, evidence = [], {}
    for name, margin in spec.rollout.metrics.items():
        lost = better[name] == "higher"
        rail = Guardrail(
            f"less {name}" if lost else name,
            margin,
            kind="mean",
            expected=1.0,
            least_traffic=max(1, spec.rollout.labels),
        )
        sums = [by.get((f"{METRIC}.{name}", arm), Sums()) for arm in (CANARY, CONTROL, CHAMPION)]
        if lost:
            # A guardrail is worse when it is higher.
            sums = [Sums(one.n, -one.total, one.squares) for one in sums]
        rails.append(rail)
        evidence[rail.name] = (sums[0], sums[1] + sums[2])
    return verdict(rails, evidence, entities=(1, 1), alpha=LEVEL / MOST_BOUNDS)


def _judged(
    rails: Sequence[Guardrail], evidence: Mapping[str, tuple[Sums, Sums]], pair: tuple[int, int]
) -> CanaryVerdict:
    # Each bound gets the same part of the level in every state, whatever else is looked at.
    return verdict(rails, evidence, entities=pair, alpha=LEVEL * len(rails) / MOST_BOUNDS)


def _pairs(
    rails: Sequence[Guardrail], by: By, canary: str, control: Sequence[str]
) -> dict[str, tuple[Sums, Sums]]:
    return {
        rail.name: (
            by.get((rail.name, canary), Sums()),
            sum((by.get((rail.name, arm), Sums()) for arm in control), Sums()),
        )
        for rail in rails
    }


def added(sums: "Mapping[Counted, Sums]", stage: str) -> dict[tuple[str, str], Sums]:
    """Sums of a stage by number and arm, over all who counted."""
    found: dict[tuple[str, str], Sums] = {}
    for counted, one in sums.items():
        if counted.stage == stage:
            key = (counted.number, counted.arm)
            found[key] = found.get(key, Sums()) + one
    return found
