"""Experiments: which versions may share the traffic, and what comes of it.

Between the states of `core.experiment`, which are kept by `stores/rollouts`, and the logs. Used by
commands and the model server. What is better is decided by `core.experiment_analysis`, what was
seen is read by `data`; how long one takes is said by `plan`.
"""

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from mlops_assets.core.experiment import Experiment
from mlops_assets.core.experiment_analysis import (
    Aim,
    Analysis,
    Comparison,
    Observed,
    analyse,
)
from mlops_assets.core.experiment_page import ArmFacts, ExperimentCard
from mlops_assets.core.ledger_chain import Record
from mlops_assets.core.routing import BUCKETS, CANARY, CHAMPION, CONTROL, Arm
from mlops_assets.errors import (
    DeclarationError,
    RolloutError,
    UnknownNameError,
)
from mlops_assets.experiments.data import Window, observe
from mlops_assets.outcomes.join import refuse_unknown_entities
from mlops_assets.platform import Platform
from mlops_assets.rollouts import moves
from mlops_assets.spec import ModelSpec

if TYPE_CHECKING:
    from mlops_assets.stores.rollouts import Kept

PERCENT = BUCKETS // 100
_TAKEN = (CHAMPION, CANARY, CONTROL, "shadow", "requested", "batch")


@dataclass(frozen=True, slots=True)
class Report:
    """An experiment and what it says now.

    Args:
        kept: the experiment.
        window: the time that is looked at.
        observed: what was seen.
        analysis: what it says.
    """

    kept: "Kept"
    window: Window
    observed: Observed
    analysis: Analysis

    @property
    def experiment(self) -> Experiment:
        """The experiment's state."""
        assert isinstance(self.kept.traffic, Experiment)  # noqa: S101
        return self.kept.traffic

    @property
    def document(self) -> dict[str, Any]:
        """The report as JSON has it: without bounds that are infinite."""
        found, seen = self.experiment, self.observed
        return {
            "model": self.kept.model,
            "id": found.id,
            "state": found.state,
            "champion": self.kept.champion,
            "begun_by": self.kept.actor,
            "since": self.window.since.isoformat(),
            "until": self.window.until.isoformat() if self.window.until else None,
            "as_of": self.window.as_of.isoformat(),
            "exposed": found.exposed / PERCENT,
            "arms": {
                arm.name: {
                    "version": arm.version,
                    "share": arm.share / PERCENT,
                    "entities": seen.entities.get(arm.name, 0),
                    "predictions": seen.predictions.get(arm.name, 0),
                }
                for arm in found.arms
            },
            "crossed_entities": seen.crossed,
            "split": {"log_evidence": self.analysis.split, "broken": self.analysis.broken},
            "metrics": [_plain(one) for one in self.analysis.comparisons],
            "slices": [_plain(one) for one in self.analysis.slices],
            "unjudged_levels": dict(seen.unjudged),
        }


def arm(name: str, version: str, percent: float) -> Arm:
    """An arm with its percent of the traffic.

    Raises:
        DeclarationError: a name that cannot be logged, or a percent that is no share.

    >>> arm("new", "8", 12.5)
    Arm(name='new', version='8', share=1250)
    """
    share = percent * PERCENT
    named = re.fullmatch(r"[a-z][a-z0-9_-]{0,39}", name) and name not in _TAKEN
    if not named or not isfinite(share) or not 1 <= share <= BUCKETS or abs(share % 1) > 1e-6:
        raise DeclarationError(
            f"an arm {name!r} with {percent:g}% of the traffic",
            expected="a name of lower-case letters, digits, '_' and '-' other than "
            f"{', '.join(_TAKEN)}, and a percent above 0 with at most two decimals",
            do="write arms like old=7:50 and new=8:50",
        )
    return Arm(name, version, round(share))


def start(
    platform: Platform,
    spec: ModelSpec,
    arms: Sequence[Arm],
    metrics: Sequence[str],
    *,
    actor: str,
    reason: str,
    exposed: float = 100,
) -> "Kept":
    """Begin to split the traffic over versions; over one version twice as well (A/A).

    Args:
        platform: the stores.
        spec: the model, with its metrics.
        arms: the arms; the others are compared with the first.
        metrics: names of metrics of the spec.
        actor: who starts it.
        reason: why.
        exposed: percent of the traffic that takes part; all others get the champion.

    Raises:
        DeclarationError: arms that are no split, no metric, or an unknown one.
        RolloutError: without a champion, or beside another rollout or experiment.
        ReleaseRefusedError: when a version never passed its gates, or is retired.
        ReleaseConflictError: when aliases were moved by hand.
        RegistryError: when there is no such version.
        DataError: when the log does not keep the keys of the entities.
    """
    from mlops_assets.stores.rollouts import new_id

    _refuse_no_split(arms, exposed)
    aims = aims_of(spec, metrics)
    refuse_unknown_entities(spec)
    name = new_id()
    experiment = Experiment(
        name,
        salt=name,
        arms=tuple(arms),
        exposed=round(exposed * PERCENT),
        metrics=tuple(aim.name for aim in aims),
    )
    champion = moves.champion_beside(platform, spec, experiment.versions, itself=True)
    record = Record(
        action="experiment",
        model=spec.name,
        actor=actor,
        reason=reason,
        from_version=champion,
        evidence={
            "experiment": name,
            "arms": [asdict(one) for one in experiment.arms],
            "exposed": experiment.exposed,
            "metrics": list(experiment.metrics),
            # In the time that predictions are logged in, which may be one of the past.
            "since": platform.now.isoformat(),
        },
    )
    return platform.rollouts.begin(experiment, champion, record)


def stop(platform: Platform, spec: ModelSpec, *, actor: str, reason: str) -> "Kept":
    """Stop the experiment of a model: everybody gets the champion.

    Raises:
        RolloutError: when there is none.
        LedgerError: when somebody else stopped it meanwhile.
    """
    until = {"until": platform.now.isoformat()}
    return moves.conclude(platform, spec, actor=actor, reason=reason, evidence=until)


def report(platform: Platform, spec: ModelSpec, *, as_of: dt.datetime | None = None) -> Report:
    """Say what the newest experiment of a model says, running or stopped.

    Args:
        platform: the stores.
        spec: the model.
        as_of: outcomes that became known later are not there yet; None for all that are known.

    Raises:
        RolloutError: when the model has had no experiment.
        UnknownNameError: when a metric of it is no longer declared.
        DataError: when the log does not keep the keys of the entities.
    """
    kept = platform.rollouts.last(spec.name, "experiment")
    if kept is None or not isinstance(kept.traffic, Experiment):
        raise RolloutError(
            f"{spec.name!r} has had no experiment",
            expected="an experiment",
            do=f"begin one: mlops-assets experiment start {spec.name} ...",
        )
    experiment = kept.traffic
    aims = aims_of(spec, experiment.metrics)
    window = Window(*platform.rollouts.span(kept, platform.settings.now), as_of or platform.now)
    observed = observe(platform, spec, experiment.arms, aims, window)
    analysis = analyse(experiment.arms, aims, observed, slices=len(spec.slices))
    return Report(kept, window, observed, analysis)


def page_of(found: Report, spec: ModelSpec) -> ExperimentCard:
    """What the page of an experiment shows."""
    experiment, seen, window = found.experiment, found.observed, found.window
    end = f"{window.until:%Y-%m-%d %H:%M} UTC" if window.until else "still running"
    notes = [f"{n} further levels of {name} are not judged" for name, n in seen.unjudged.items()]
    if seen.crossed:
        notes.append(f"{seen.crossed:,} entities were in several arms and are left out")
    return ExperimentCard(
        found.kept.model,
        experiment.id,
        experiment.state,
        {
            "Begun by": found.kept.actor,
            "Since": f"{window.since:%Y-%m-%d %H:%M} UTC",
            "Until": end,
            "Outcomes known by": f"{window.as_of:%Y-%m-%d %H:%M} UTC",
            "Takes part": f"{experiment.exposed / PERCENT:g}% of the traffic",
            "Champion": f"version {found.kept.champion}",
        },
        tuple(
            ArmFacts(
                one.name,
                one.version,
                one.share / PERCENT,
                seen.entities.get(one.name, 0),
                seen.predictions.get(one.name, 0),
            )
            for one in experiment.arms
        ),
        aims_of(spec, experiment.metrics),
        found.analysis,
        tuple(notes),
    )


def aims_of(spec: ModelSpec, metrics: Sequence[str]) -> tuple[Aim, ...]:
    """The metrics of the spec by their names.

    Raises:
        DeclarationError: when none is named, or one twice.
        UnknownNameError: when one is not declared.
    """
    known = {one.name: one for one in spec.metrics}
    if not metrics or len(set(metrics)) != len(metrics):
        raise DeclarationError(
            f"an experiment on {', '.join(metrics) or 'no metric'}",
            expected="at least one metric, each once",
            do=f"name what is to be compared, of: {', '.join(known) or 'none declared yet'}",
        )
    for name in metrics:
        if name not in known:
            if not known:
                raise DeclarationError(
                    f"{spec.name!r} declares no metrics, so nobody knows whether more of "
                    f"{name!r} is better",
                    expected="metrics in the spec of the model",
                    do=f'add metrics=(Metric(name="{name}", better="higher"),)',
                )
            raise UnknownNameError.of("metric", name, known)
    return tuple(Aim(**known[name].model_dump(exclude={"column"})) for name in metrics)


def _refuse_no_split(arms: Sequence[Arm], exposed: float) -> None:
    whole = sum(one.share for one in arms)
    if len(arms) < 2 or whole != BUCKETS:
        told = ", ".join(f"{one.name} {one.share / PERCENT:g}%" for one in arms) or "none"
        raise DeclarationError(
            f"the arms {told}: {whole / PERCENT:g}% in all",
            expected="two arms or more, with 100% in all",
            do="correct the percents; how much of the traffic takes part is said by --exposed",
        )
    refuse_no_part([one.share for one in arms], exposed)


def refuse_no_part(shares: Sequence[int], exposed: float) -> None:
    """Refuse a part of the traffic that is none, or too small for its arms.

    Args:
        shares: shares of the arms.
        exposed: percent of the traffic that takes part.

    Raises:
        DeclarationError: when it is.
    """
    part = exposed * PERCENT
    fits = isfinite(part) and 1 <= part <= BUCKETS and abs(part - round(part)) < 1e-6
    if not fits or min(share * round(part) // sum(shares) for share in shares) < 1:
        raise DeclarationError(
            f"an experiment on {exposed:g}% of the traffic",
            expected="a percent up to 100 with at most two decimals, so that every arm gets some",
            do="name the percent of the traffic that takes part, such as 20",
        )


def _plain(one: Comparison) -> dict[str, Any]:
    ends = {"low": one.low, "high": one.high}
    return {
        "metric": one.metric,
        "unit": one.unit,
        "arm": one.arm,
        "against": one.against,
        **({"slice": one.slice, "level": one.level} if one.slice else {}),
        "verdict": one.said,
        "why": one.why,
        "difference": one.difference,
        **{name: end if isfinite(end) else None for name, end in ends.items()},
        "mean": one.theirs.sums.mean if one.theirs.sums.n else None,
        "first_mean": one.first.sums.mean if one.first.sums.n else None,
        "entities": one.theirs.sums.n,
        "first_entities": one.first.sums.n,
        "values": one.theirs.values + one.first.values,
    }
