"""MonitoringPolicy: when a model in production is said to drift, and how long that is remembered.

Declarations only; they are part of a `ModelSpec`. What is computed with them stands in
`monitoring/`, the laws behind the numbers in `core/drift.py` and `core/incident.py`.
"""

import datetime as dt

from pydantic import Field, model_validator

from mlops_assets.core.drift import DriftPolicy
from mlops_assets.core.incident import IncidentPolicy
from mlops_assets.errors import DeclarationError
from mlops_assets.tables import Declaration


class MonitoringPolicy(Declaration):
    """Limits and windows of the monitors. Those left out are the limits of the gates.

    Args:
        warn: PSI above which a column is worth a warning.
        alert: PSI above which it has drifted.
        rate: false discovery rate across the columns of a window.
        least_rows: rows of a window below which it says nothing.
        own_quantile: quantile of a column's own daily PSI inside the reference, above which its
            PSI has to be too; 1 is the largest of all days of the reference.
        open_k: bad windows that open an incident,
        open_m: of so many last windows with data.
        close_after: fine windows in a row, with data, that end it.
        silent_after: windows in a row without data that open one too; None for never.
        ece_limit: expected calibration error that is surely exceeded is a warning, and twice of it
            critical; None for the limit of the gates.
        bin_limit: the same for the largest deviation of a bin.
        coverage_tolerance: the same for the distance from the stated coverage.
        loss_margin: how much the loss may exceed that on holdout, as a share of it.
        bias_limit: how far forecasts of a number may be off on average, as a share of the mean
            absolute error on holdout.
        label_delay: time after a window by which its labels are expected.
        mature_share: share of the predictions of a window whose labels are known, from which on
            it is judged by them; before, there are estimates only.
        label_days: a label that comes more than so many days after its prediction is not looked
            for, and counts as one of an unknown prediction.
        trailing_days: days, up to and with a day, that calibration, coverage and performance of
            that day are judged on: single days differ by more than a model ages.
        windows_kept: days and weeks of results that are kept.
    """

    warn: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    alert: float = Field(default=0.2, ge=0, allow_inf_nan=False)
    rate: float = Field(default=0.05, gt=0, lt=1)
    least_rows: int = Field(default=100, ge=1)
    own_quantile: float = Field(default=1.0, gt=0.5, le=1)
    open_k: int = Field(default=2, ge=1)
    open_m: int = Field(default=3, ge=1)
    close_after: int = Field(default=2, ge=1)
    silent_after: int | None = Field(default=3, ge=1)
    ece_limit: float | None = Field(default=None, gt=0, lt=1)
    bin_limit: float | None = Field(default=None, gt=0, lt=1)
    coverage_tolerance: float | None = Field(default=None, gt=0, lt=1)
    loss_margin: float = Field(default=0.2, gt=0, allow_inf_nan=False)
    bias_limit: float = Field(default=0.25, gt=0, allow_inf_nan=False)
    label_delay: dt.timedelta = Field(default=dt.timedelta(days=1), ge=dt.timedelta(0))
    mature_share: float = Field(default=0.9, gt=0, le=1)
    label_days: int = Field(default=60, ge=1)
    trailing_days: int = Field(default=7, ge=1, le=31)
    windows_kept: int = Field(default=400, ge=1)

    @model_validator(mode="after")
    def _windows_fit(self) -> "MonitoringPolicy":
        _ = self.drift, self.incidents  # each refuses what does not fit together
        if self.windows_kept < self.trailing_days:
            raise DeclarationError(
                f"{self.windows_kept} windows are kept, and {self.trailing_days} days are judged "
                "together",
                expected="at least as many windows as trailing days",
                do="keep more windows",
            )
        return self

    @property
    def drift(self) -> DriftPolicy:
        """When a column has drifted."""
        return DriftPolicy(
            warn=self.warn, alert=self.alert, rate=self.rate, least_rows=self.least_rows
        )

    @property
    def incidents(self) -> IncidentPolicy:
        """When an incident opens and closes."""
        return IncidentPolicy(
            open_k=self.open_k,
            open_m=self.open_m,
            close_after=self.close_after,
            silent_after=self.silent_after,
        )
