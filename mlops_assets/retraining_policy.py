"""When a model is trained again, and on which days: a policy of a `ModelSpec`.

Declarations and their checks only. The rules behind them are in `core.retraining`; schedule and
sensor that ask are in `defs`.
"""

import datetime as dt

from pydantic import Field, field_validator, model_validator

from mlops_assets.core.retraining import RetrainPolicy
from mlops_assets.errors import DeclarationError
from mlops_assets.tables import Declaration

DAY = dt.timedelta(days=1)


class RetrainingPolicy(Declaration):
    """When a model is trained again.

    Args:
        schedule: when it is due, as cron says it, in UTC; None for never by the clock.
        new_labels: so many labels since the last training call for one; None for no such event.
        on_drift: whether open incidents of drift call for one.
        on_calibration: whether open incidents of calibration, coverage or performance do.
        cool_down_days: days after a training in which none is started.
        back_off_days: days after a failure in which none is started, doubled by every further one.
        most_back_off_days: the longest of these times.
        train_days: days to learn from; None for all since the spec's train begins.
        label_delay_days: the windows end so many days before, so that labels had time to come.
    """

    schedule: str | None = "0 5 * * 1"
    new_labels: int | None = Field(default=None, ge=1)
    on_drift: bool = True
    on_calibration: bool = True
    cool_down_days: float = Field(default=3, ge=0)
    back_off_days: float = Field(default=0.25, gt=0)
    most_back_off_days: float = Field(default=7, gt=0)
    train_days: int | None = Field(default=None, ge=1)
    label_delay_days: int = Field(default=2, ge=0)

    @field_validator("schedule")
    @classmethod
    def _is_cron(cls, schedule: str | None) -> str | None:
        if schedule is not None and len(schedule.split()) != 5:
            raise DeclarationError(
                f"the schedule {schedule!r}",
                expected="five fields of cron, or None",
                do="write it like '0 5 * * 1', which is Mondays at five",
            )
        return schedule

    @model_validator(mode="after")
    def _rules_fit(self) -> "RetrainingPolicy":
        self.rules()  # which refuses what does not fit together
        return self

    def rules(self, every: dt.timedelta | None = None) -> RetrainPolicy:
        """The rules as `core.retraining` takes them.

        Args:
            every: when it is due by the clock; None where a schedule asks by itself.
        """
        return RetrainPolicy(
            every=every,
            new_labels=self.new_labels,
            on_drift=self.on_drift,
            on_calibration=self.on_calibration,
            cool_down=self.cool_down_days * DAY,
            back_off=self.back_off_days * DAY,
            most_back_off=self.most_back_off_days * DAY,
        )
