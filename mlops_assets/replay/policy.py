"""What a replay may choose: when it trains, on which windows, what it watches, and what if.

Declarations and their checks only. Gates and rollouts are those of the model's spec but for what
the policy names, so that one can see what another limit would have let through.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator

from mlops_assets.core.retraining import RetrainPolicy
from mlops_assets.errors import DeclarationError, UnknownNameError
from mlops_assets.serving_policy import RolloutPolicy
from mlops_assets.spec import GatePolicy, ModelSpec
from mlops_assets.tables import Declaration
from mlops_assets.windows import Window, Windows

DAY = dt.timedelta(days=1)


DAILY: Mapping[str, Any] = {
    "steps": (25, 50, 100),
    "least_rows": 500,
    "labels": 1_000,
    "most_hours": 14 * 24,
    "errors": 0.1,
    "slow": 0.1,
}
"""What differs from the model's own rollouts where nothing but days can be replayed. A small first
step of some hundred rows a day would decide nothing for weeks, and there is no sense in waiting for
proof that requests do not fail which are none."""


class ReplayPolicy(Declaration):
    """How a replay goes.

    Args:
        retrain_every_days: the schedule; None for none.
        retrain_on_new_labels: so many new labels call for a retrain; None for no such event.
        retrain_on_drift: whether an incident of drift calls for one.
        retrain_on_calibration: whether an incident of calibration calls for one.
        cool_down_days: days after a retrain in which none is started.
        back_off_days: days after a failure in which none is started, doubled by every further one.
        most_back_off_days: the longest of these times.
        train_days: length of the train window; None for all days since the spec's train begins.
        calibrate_days: length of the calibrate and conformalize windows together, which take turns
            by days; None for the length in the spec. Of whole weeks, an even number of them, both
            windows get every weekday equally often.
        holdout_days: length of the holdout; None for the length in the spec.
        least_train_days: with fewer days to learn from nothing is trained.
        label_delay_days: the windows end so many days before the day of the retrain, so that the
            labels of the last day had time to come.
        compete_every: in every so many retrains all estimators compete, and in those between the
            last winner is taken; 1 for all of them.
        first: the first version is in service before the platform comes, which adopts it; or it
            has to pass the gates like any other, and nothing predicts before one has.
        inconclusive: what is inconclusive is left to a person who never comes, or released as if
            somebody approved it. What failed is never released.
        gates: thresholds that differ from the model's `GatePolicy`, by name.
        canary: what differs from the model's `RolloutPolicy` and from `DAILY`, by name; None
            releases a version that passed at once. A canary that nothing moves in `most_hours` is
            given up.
        watch_days: calibration and drift are looked at over so many days.
        ece_limit: calibration is off when the whole interval of the ECE of these days lies above;
            None for the limit of the gate.
        drift_share: inputs have drifted when more than this share of them has.
    """

    retrain_every_days: int | None = Field(default=7, ge=1)
    retrain_on_new_labels: int | None = Field(default=None, ge=1)
    retrain_on_drift: bool = True
    retrain_on_calibration: bool = True
    cool_down_days: int = Field(default=3, ge=0)
    back_off_days: int = Field(default=1, ge=1)
    most_back_off_days: int = Field(default=7, ge=1)
    train_days: int | None = Field(default=None, ge=1)
    calibrate_days: int | None = Field(default=28, ge=2)
    holdout_days: int | None = Field(default=28, ge=1)
    least_train_days: int = Field(default=28, ge=1)
    label_delay_days: int = Field(default=2, ge=0)
    compete_every: int = Field(default=4, ge=1)
    first: Literal["adopt", "gates"] = "adopt"
    inconclusive: Literal["hold", "release"] = "hold"
    gates: Mapping[str, Any] = {}
    canary: Mapping[str, Any] | None = {}
    watch_days: int = Field(default=7, ge=1)
    ece_limit: float | None = Field(default=None, gt=0, lt=1)
    drift_share: float = Field(default=0.5, gt=0, le=1)

    @classmethod
    def read(cls, path: Path) -> "ReplayPolicy":
        """Read a policy from a YAML (or JSON) file; what it leaves out has its default.

        Raises:
            UnknownNameError: a key that there is not; names the nearest.
            DeclarationError: a file that cannot be read, or values that do not fit.
        """
        import yaml

        try:
            found = yaml.safe_load(path.read_text())
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as unreadable:
            raise _wrong(path, f"cannot be read: {unreadable}") from unreadable
        found = {} if found is None else found
        if not isinstance(found, Mapping):
            raise _wrong(path, f"holds {type(found).__name__}, no keys with values")
        _refuse_unknown("policy key", found, cls.model_fields)
        for name, policy in (("gates", GatePolicy), ("canary", RolloutPolicy)):
            if isinstance(told := found.get(name), Mapping):
                _refuse_unknown(f"key of {name}", told, policy.model_fields)
        try:
            return cls.model_validate(found)
        except ValidationError as invalid:
            told = "; ".join(
                f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in invalid.errors()
            )
            raise _wrong(path, told) from invalid
        except DeclarationError as invalid:
            raise _wrong(path, f"{invalid.found}; expected {invalid.expected}") from invalid

    @field_validator("gates")
    @classmethod
    def _gates_fit(cls, gates: Mapping[str, Any]) -> Mapping[str, Any]:
        GatePolicy(**gates)
        return gates

    @field_validator("canary")
    @classmethod
    def _canary_fits(cls, canary: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        RolloutPolicy(**{**DAILY, **(canary or {})})
        return canary

    def applied(self, spec: ModelSpec) -> ModelSpec:
        """The model with the gates and rollouts of the replay."""
        gates = {**spec.gates.model_dump(), **self.gates}
        rollout = {**spec.rollout.model_dump(), **DAILY, **(self.canary or {})}
        return spec.model_copy(
            update={"gates": GatePolicy(**gates), "rollout": RolloutPolicy(**rollout)}
        )

    @property
    def retraining(self) -> RetrainPolicy:
        """When a model is trained again, as `core.retraining` takes it."""
        every = self.retrain_every_days
        return RetrainPolicy(
            every=None if every is None else every * DAY,
            new_labels=self.retrain_on_new_labels,
            on_drift=self.retrain_on_drift,
            on_calibration=self.retrain_on_calibration,
            cool_down=self.cool_down_days * DAY,
            back_off=self.back_off_days * DAY,
            most_back_off=self.most_back_off_days * DAY,
        )

    def windows(self, spec: ModelSpec, day: dt.date) -> Windows | None:
        """The windows of a retrain on a day; None when too few days are left to learn from.

        Args:
            spec: the model, whose windows give the lengths that the policy leaves open.
            day: the retrain runs at its midnight.
        """
        declared = spec.windows
        end = day - self.label_delay_days * DAY
        held = self.holdout_days or (declared.holdout.end - declared.holdout.start).days
        both = (declared.conformalize.end - declared.calibrate.start).days
        holdout = end - held * DAY
        calibrate = holdout - (self.calibrate_days or both) * DAY
        start = declared.train.start
        if self.train_days is not None:
            start = max(start, calibrate - self.train_days * DAY)
        if (calibrate - start).days < self.least_train_days:
            return None
        return Windows(
            train=Window(start=start, end=calibrate),
            calibrate=Window(start=calibrate, end=holdout, days="even"),
            conformalize=Window(start=calibrate, end=holdout, days="odd"),
            holdout=Window(start=holdout, end=end),
        )


def _refuse_unknown(kind: str, found: Mapping[Any, Any], known: Iterable[str]) -> None:
    names = list(known)
    for name in found:
        if name not in names:
            raise UnknownNameError.of(kind, str(name), names)


def _wrong(path: Path, what: str) -> DeclarationError:
    return DeclarationError(
        f"the policy file {path}: {what}",
        expected="YAML with the keys of the replay policy",
        do="correct the file; `mlops-assets replay --help` names an example",
    )
