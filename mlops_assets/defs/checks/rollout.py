"""How does the canary do? A check on the champion, and a sensor that asks each minute.

It shows what the model server decides on; it decides nothing. The sensor also counts what became
known of the arms' predictions, which the server cannot see: labels come to the lake.
"""

import datetime as dt
from collections.abc import Sequence

import dagster as dg

from mlops_assets.core.rollout import Rollout
from mlops_assets.defs import keys, metadata
from mlops_assets.errors import MlopsAssetsError
from mlops_assets.outcomes.sums import sums_of
from mlops_assets.platform import Platform
from mlops_assets.rollouts import canary
from mlops_assets.rollouts.canary import CanaryCall
from mlops_assets.rollouts.table import line
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.rollouts import Kept

NAME = "canary_does_no_harm"
SECONDS = 60


def rollout_check(spec: ModelSpec) -> dg.AssetChecksDefinition:
    """The check of a model's rollout."""

    @dg.asset_check(
        asset=keys.champion(spec),
        name=NAME,
        description="The version that is rolled out is surely no worse than the champion, in "
        "anything that its policy names.",
    )
    def canary_does_no_harm(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        kept = platform.rollouts.last(spec.name)
        found = _call(platform, spec, kept)
        return dg.AssetCheckResult(
            passed=_passes(kept, found),
            severity=_severity(kept, found),
            description=_told(spec, kept, found),
            metadata=_metadata(kept, found),
        )

    return canary_does_no_harm


def rollout_sensor(specs: Sequence[ModelSpec]) -> dg.SensorDefinition:
    """The sensor of all models: counts labels of the arms, and reports where rollouts stand."""
    models = tuple(specs)

    @dg.sensor(
        name=f"{NAME}_sensor",
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Counts labels of the arms of rollouts, and reports where they stand.",
    )
    def canary_does_no_harm_sensor(
        context: dg.SensorEvaluationContext, platform: dg.ResourceParam[Platform]
    ) -> dg.SensorResult | dg.SkipReason:
        found = []
        for spec in models:
            kept = platform.rollouts.last(spec.name)
            if kept is None:
                continue
            if kept.is_rollout and kept.traffic.is_open:
                try:
                    platform.rollouts.count(kept.traffic.id, sums_of(platform, spec, kept))
                except MlopsAssetsError as late:
                    # What is known so far still holds; the next tick counts again from the start.
                    context.log.warning(f"labels of {spec.name} were not counted: {late}")
            found.append((spec, kept, _call(platform, spec, kept)))
        if not found:
            return dg.SkipReason("no model has had a rollout")
        state = "; ".join(
            f"{kept.traffic.id} {kept.traffic.state} {kept.seq} "
            f"{(call.move, call.needs_person) if call else ''}"
            for _, kept, call in found
        )
        if state == context.cursor:
            return dg.SkipReason("; ".join(line(kept) for _, kept, _ in found))
        # Only what changed is news; the history of a check is no log of ticks.
        return dg.SensorResult(
            asset_events=[
                dg.AssetCheckEvaluation(
                    asset_key=keys.champion(spec),
                    check_name=NAME,
                    passed=_passes(kept, call),
                    severity=_severity(kept, call),
                    description=_told(spec, kept, call),
                    metadata={
                        key: dg.MetadataValue.text(str(value))
                        for key, value in _metadata(kept, call).items()
                    },
                )
                for spec, kept, call in found
            ],
            cursor=state,
        )

    return canary_does_no_harm_sensor


def _call(platform: Platform, spec: ModelSpec, kept: Kept | None) -> CanaryCall | None:
    if kept is None or not isinstance(kept.traffic, Rollout):
        return None
    sums = platform.rollouts.sums(kept.traffic.id)
    now = dt.datetime.now(dt.UTC)
    return canary.call(spec, kept.traffic, sums, entered=kept.entered, now=now)


def _passes(kept: Kept | None, call: CanaryCall | None) -> bool:
    if kept is None or call is None:
        return True
    return call.move == "advance" if kept.traffic.is_open else kept.traffic.state != "aborted"


def _severity(kept: Kept | None, call: CanaryCall | None) -> dg.AssetCheckSeverity:
    waits = _waits(kept, call)
    return dg.AssetCheckSeverity.WARN if waits else dg.AssetCheckSeverity.ERROR


def _waits(kept: Kept | None, call: CanaryCall | None) -> bool:
    """Whether it is not known yet how the canary does."""
    return bool(kept and kept.traffic.is_open and call and call.move == "hold")


def _told(spec: ModelSpec, kept: Kept | None, call: CanaryCall | None) -> str:
    if kept is None:
        return f"{spec.name} has had no rollout"
    if call is None or not kept.traffic.is_open:
        return line(kept)
    now = "still open" if call.move == "hold" else f"now: {call.move}"
    return f"{line(kept)}; {now}: {call.reason}"


def _metadata(kept: Kept | None, call: CanaryCall | None) -> dict[str, str | int | float]:
    if kept is None:
        return {}
    found: dict[str, str | int | float] = {"rollout": kept.traffic.id, "ledger_entry": kept.seq}
    for reading in call.readings if call else ():
        found[reading.guardrail] = reading.reason
    if call and _waits(kept, call) and not call.needs_person:
        found[metadata.UNDECIDED] = call.reason
    return found
