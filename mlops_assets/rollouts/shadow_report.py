"""What a shadow said beside what was answered: read from the log, joined by id, and compared.

From the lake and from log files that are still open, so that nobody has to wait for a compaction.
The numbers are computed in `core.disagreement`.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from mlops_assets.core.disagreement import Disagreement, disagreements
from mlops_assets.errors import DataError
from mlops_assets.platform import Platform
from mlops_assets.rollouts.canary import SHADOW
from mlops_assets.spec import ModelSpec, Slice
from mlops_assets.stores.lake import text
from mlops_assets.stores.live_log import living

LOG = "inference_log"
"""Folder of the log, below the home."""


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


def shadow_report(platform: Platform, spec: ModelSpec, version: str) -> ShadowReport:
    """Compare what a version said in the shadow with what was answered.

    Args:
        platform: the stores.
        spec: the model.
        version: the version that was, or is, the shadow.

    Raises:
        DataError: when no row was answered and scored by the shadow.
    """
    binary = spec.task == "binary"
    score = f"outputs[{text('probability' if binary else 'forecast')}]"
    slices = ", ".join(f"{_level(one)} AS {text(one.name)}" for one in spec.slices)
    of_model = f"FROM inference_log WHERE model = {text(spec.name)}"
    with living(platform.settings.root / LOG, platform.lake) as connection:
        rows = connection.sql(
            f"WITH said AS (SELECT prediction_id, status, {score} AS score {of_model} "
            f"AND arm = {text(SHADOW)} AND version = {text(version)}), "
            f"answered AS (SELECT * {of_model} AND arm <> {text(SHADOW)} AND status = 'ok') "
            f"SELECT said.prediction_id, said.status = 'ok' AS scored, said.score AS shadow, "
            f"a.{score} AS answered{', ' if slices else ''}{slices} "
            f"FROM said JOIN answered a USING (prediction_id) ORDER BY prediction_id"
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


def _level(one: Slice) -> str:
    """SQL of the level of a row: of a feature, or of a key that was sent along."""
    name = text(one.of)
    number = f"a.numbers[list_position(a.features, {name})]"
    if not one.edges:
        # Numbers look as they do elsewhere: 3 and not 3.0.
        plain = f"CASE WHEN {number} = floor({number}) THEN {number}::BIGINT::VARCHAR "
        plain += f"ELSE {number}::VARCHAR END"
        return f"coalesce(a.texts[{name}], a.entity[{name}], {plain}, 'unknown')"
    value = f"coalesce({number}, try_cast(a.entity[{name}] AS DOUBLE))"
    bands = " ".join(
        f"WHEN {value} < {edge!r} THEN {text(label)}"
        for edge, label in zip(one.edges, _bands(one.edges), strict=False)
    )
    last = text(_bands(one.edges)[-1])
    return f"CASE WHEN {value} IS NULL THEN 'unknown' {bands} ELSE {last} END"


def _bands(edges: tuple[float, ...]) -> list[str]:
    """The names of the bands between edges.

    >>> _bands((10.0, 20.0))
    ['below 10', '10 to 20', '20 and above']
    """
    middle = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    return [f"below {edges[0]:g}", *middle, f"{edges[-1]:g} and above"]
