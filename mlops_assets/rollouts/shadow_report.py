"""What a shadow said beside what was answered: read from the log, joined by id, and compared.

From the lake and from log files that are still open, so that nobody has to wait for a compaction.
The numbers are computed in `core.disagreement`.
"""

import datetime as dt
from dataclasses import asdict, dataclass
from typing import Any

from mlops_assets.core.disagreement import Disagreement, disagreements
from mlops_assets.errors import DataError
from mlops_assets.platform import Platform
from mlops_assets.rollouts.canary import SHADOW
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.inference_log import PREDICTIONS
from mlops_assets.stores.lake import quoted, text
from mlops_assets.stores.live_log import living
from mlops_assets.stores.logged import slice_sql
from mlops_assets.stores.rollouts import Kept
from mlops_assets.tables import EVENT_TIME


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """How a version differs from those that answered while it was the shadow.

    Args:
        model: the model.
        version: the shadow.
        refused: rows that the shadow failed on, and the others answered.
        found: all rows first, then slice by slice.
        worst_id: the prediction with the largest difference.
    """

    model: str
    version: str
    refused: int
    found: tuple[Disagreement, ...]
    worst_id: str

    @property
    def document(self) -> dict[str, Any]:
        """The report as JSON has it."""
        return {
            "model": self.model,
            "version": self.version,
            "refused": self.refused,
            "worst_prediction": self.worst_id,
            "disagreements": [asdict(one) for one in self.found],
        }


def shadow_report(platform: Platform, spec: ModelSpec, kept: Kept) -> ShadowReport:
    """Compare what a version said in the shadow of a rollout with what was answered.

    Args:
        platform: the stores.
        spec: the model.
        kept: the rollout.

    Raises:
        DataError: when no row was answered and scored by the shadow.
    """
    (version,) = kept.traffic.versions
    binary = spec.task == "binary"
    score = f"outputs[{text('probability' if binary else 'forecast')}]"
    slices = "".join(f", {slice_sql(spec, one)} AS {quoted(one.name)}" for one in spec.slices)
    since, _ = platform.rollouts.span(kept, platform.settings.now)
    of_model = (
        f"FROM {PREDICTIONS.name} WHERE model = {text(spec.name)} "
        f"AND {quoted(EVENT_TIME)} >= {text(since.isoformat())}::TIMESTAMPTZ"
    )
    folder, first = platform.settings.root / PREDICTIONS.name, since.astimezone(dt.UTC).date()
    with living(folder, platform.lake, first=first) as connection:
        rows = connection.sql(
            f"WITH said AS (SELECT prediction_id, status = 'ok' AS scored, {score} AS shadow "
            f"{of_model} AND arm = {text(SHADOW)} AND version = {text(version)}), "
            f"answers AS (SELECT prediction_id, {score} AS answered{slices} "
            f"{of_model} AND arm <> {text(SHADOW)} AND status = 'ok') "
            "SELECT * FROM said JOIN answers USING (prediction_id) ORDER BY prediction_id"
        ).to_arrow_table()
    scored = rows.filter(rows["scored"])
    if not scored.num_rows:
        raise DataError(
            f"no data: version {version} of {spec.name!r} scored none of the {rows.num_rows:,} "
            "answered rows that it was shown",
            expected="rows that were answered, and scored by the shadow",
            do=f"begin a rollout and send traffic: mlops-assets rollout start {spec.name}",
        )
    found = disagreements(
        scored["answered"].to_numpy(),
        scored["shadow"].to_numpy(),
        threshold=spec.threshold if binary else None,
        slices={one.name: scored[one.name].to_pylist() for one in spec.slices},
    )
    return ShadowReport(
        spec.name,
        version,
        rows.num_rows - scored.num_rows,
        found,
        scored["prediction_id"][found[0].worst_row].as_py(),
    )
