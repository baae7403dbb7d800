"""The monitoring of a replay, day by day: calibration on mature labels, drift of the inputs.

Measures with `core.performance` and `core.drift`, and opens and closes incidents with
`core.incident`. A window without rows is no data, never all well.
"""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlops_assets.core.drift import DriftVerdict, judge
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.incident import Health, IncidentPolicy, Message, Reading, Subject, Watch
from mlops_assets.core.performance import classification_performance
from mlops_assets.core.profile import (
    CategoryBins,
    CategoryProfile,
    NumberBins,
    NumberProfile,
    Profile,
)
from mlops_assets.core.retraining import Breach
from mlops_assets.replay.candidates import Candidate
from mlops_assets.replay.year import Year

if TYPE_CHECKING:
    import pyarrow as pa

# The windows of two days share all days but one: three in a row are one bad window and a bit.
INCIDENTS = IncidentPolicy(open_k=3, open_m=3, close_after=3, silent_after=None)

NO_DATA = "no data"


@dataclass(frozen=True)
class Watched:
    """What was seen of the champion on a day.

    Args:
        ece: calibration error of the window; None without data.
        ece_reason: the reading in words.
        drifted: share of the inputs that have drifted; None without data.
        worst: the input that has drifted most, with its PSI; None when none has.
    """

    ece: Estimate | None
    ece_reason: str
    drifted: float | None
    worst: tuple[str, float] | None


@dataclass
class Watcher:
    """Watches the champion of a replay, whoever that is.

    Args:
        year: the rows.
        ece_limit: calibration is off when the whole interval lies above.
        drift_share: inputs have drifted when more than this share has.
        days: length of the windows.
    """

    year: Year
    ece_limit: float
    drift_share: float
    days: int
    champion: Candidate | None = None
    _references: Mapping[str, Profile] = field(default_factory=dict)
    _watches: dict[str, Watch] = field(default_factory=dict)

    def follow(self, champion: Candidate) -> None:
        """Watch another champion from now on; what was wrong with the one before is over."""
        self.champion = champion
        window = champion.windows.train
        self._references = self._profiles(self.year.between(window.start, window.end), {})
        self._watches = {
            name: Watch(Subject(self.year.spec.name, name, f"version {champion.version}"))
            for name in ("calibration", "drift")
        }

    def look(
        self, day: dt.date, answered: npt.NDArray[np.intp]
    ) -> tuple[Watched, tuple[Message, ...]]:
        """Look at the days before a day.

        Args:
            day: the present is its midnight.
            answered: positions of the rows that the champion has answered so far.

        Returns:
            What was seen, and the incidents that opened or ended.
        """
        now = np.datetime64(day, "us")
        since = now - np.timedelta64(self.days, "D")
        mature = answered[(self.year.known[answered] < now) & (self.year.known[answered] >= since)]
        ece, reason = self._calibration(mature)
        health: Health = "no data"
        if ece is not None:
            health = "critical" if ece.low > self.ece_limit else "fine"
        verdicts = self._drift(day)
        told = [v for v in verdicts if v.outcome != NO_DATA]
        bad = [v for v in told if v.outcome == "drifted" and v.estimate is not None]
        share = len(bad) / len(told) if told else None
        worst = max(
            ((v.feature, v.estimate.value) for v in bad if v.estimate),
            key=lambda pair: pair[1],
            default=None,
        )
        moved: Health = "no data"
        words = "no data: no input of these days can be compared"
        if share is not None:
            moved = "warning" if share > self.drift_share else "fine"
            words = f"{len(bad)} of {len(told)} inputs have drifted"
            if worst:
                words += f", most of all {worst[0]} (PSI {worst[1]:.2f})"
        messages = (
            *self._told("calibration", day, health, reason, ece),
            *self._told("drift", day, moved, words, None),
        )
        return Watched(ece, reason, share, worst), messages

    def breach(self, name: str) -> Breach | None:
        """The open incident of a watch, as retraining takes it."""
        watch = self._watches.get(name)
        if watch is None or watch.incident is None:
            return None
        return Breach(watch.incident.opened, f"{name}: {watch.incident.worst.reason}")

    def _told(
        self, name: str, day: dt.date, health: Health, reason: str, estimate: Estimate | None
    ) -> tuple[Message, ...]:
        at = dt.datetime.combine(day, dt.time(), dt.UTC)
        watch, messages = self._watches[name].observe(
            Reading(at, health, reason, estimate), INCIDENTS
        )
        self._watches[name] = watch
        return messages

    def _calibration(self, mature: npt.NDArray[np.intp]) -> tuple[Estimate | None, str]:
        """ECE of the champion on rows whose labels have come, in words too."""
        policy = self.year.spec.gates
        if self.champion is None or len(mature) < policy.min_bin_rows:
            return None, f"no data: {len(mature):,} labelled rows"
        span = slice(int(mature[0]), int(mature[-1]) + 1)
        probabilities = self.champion.probabilities(self.year, span)[mature - span.start]
        found = classification_performance(
            self.year.labels[mature].astype(np.int64),
            probabilities,
            n_bins=policy.bins,
            min_rows=policy.min_bin_rows,
        ).metrics["ece"]
        return found, (
            f"ECE {found.value:.3f} (95% interval {found.low:.3f} to {found.high:.3f}, "
            f"n = {found.n:,}), limit {self.ece_limit:g}"
        )

    def _drift(self, day: dt.date) -> tuple[DriftVerdict, ...]:
        window = self.year.between(day - dt.timedelta(days=self.days), day)
        return judge(self._references, self._profiles(window, self._references))

    def _profiles(self, rows: slice, references: Mapping[str, Profile]) -> dict[str, Profile]:
        part = self.year.table.slice(rows.start, rows.stop - rows.start)
        names = self.year.spec.inputs
        return {name: profile_of(part[name], references.get(name)) for name in names}


def profile_of(column: "pa.ChunkedArray", reference: Profile | None) -> Profile:
    """The profile of a column: in the bins of its reference, or in its own.

    Args:
        column: shape (n,), numbers or text.
        reference: what it will be compared with; None when it is the reference.
    """
    import pyarrow as pa

    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        values = np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
        own = isinstance(reference, NumberProfile)
        bins = reference.bins if own and reference else NumberBins.of(values)
        return NumberProfile.of(values, bins)  # type: ignore[arg-type]
    found = column.cast(pa.string()).value_counts().to_pylist()
    counts = {one["values"]: one["counts"] for one in found if one["values"] is not None}
    if isinstance(reference, CategoryProfile):
        return CategoryProfile.of(counts, reference.bins, column.null_count)
    return CategoryProfile.of(counts, CategoryBins.of(counts), column.null_count)
