"""What the arms of one request say: who predicts which rows, what comes of them, in what time.

Nothing is counted or logged here, and nothing is answered; that is the matter of `predictor`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from mlops_assets.serving.model_cache import Serving
from mlops_assets.serving.refusals import Refusal
from mlops_assets.serving.served_model import Rows, ServedModel

REQUESTED = "requested"
"""Arm of a prediction whose client named the version: it is no part of any comparison."""

Outputs = Mapping[str, Any]
Routed = dict[tuple[str, ServedModel], list[int]]
"""Places of rows by arm and version."""


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of a request that one arm has, and what became of them.

    Args:
        arm: the arm.
        by: its version.
        places: the rows, by their place in the request.
        said: of each row what the version says by name, or the error with which it failed.
        seconds: the time that the version took.
    """

    arm: str
    by: ServedModel
    places: Sequence[int]
    said: Sequence[Outputs | Exception]
    seconds: float

    @property
    def outputs(self) -> dict[int, Outputs]:
        """What the version says, by place."""
        pairs = zip(self.places, self.said, strict=True)
        return {place: said for place, said in pairs if not isinstance(said, Exception)}

    @property
    def errors(self) -> dict[int, Exception]:
        """The errors, by place."""
        pairs = zip(self.places, self.said, strict=True)
        return {place: said for place, said in pairs if isinstance(said, Exception)}


def routed(
    model: str,
    serving: Serving,
    entities: Sequence[str],
    ids: Sequence[str],
    version: str | None,
) -> Routed:
    """Who predicts which row.

    Args:
        model: its name.
        serving: what serves it.
        entities: the entity of each row, empty where it has none.
        ids: of the predictions; rows without an entity are drawn by them.
        version: the version that the client wants; None for that of each row's arm.

    Raises:
        Refusal: when the version that the client wants is not served.
    """
    if version is not None:
        if version not in serving.models:
            raise Refusal(
                f"version {version[:20]!r} of {model!r} is not served",
                expected=f"one of: {', '.join(serving.models)}",
                do="leave the version out, or name one that takes traffic",
                status=404,
            )
        return {(REQUESTED, serving.models[version]): list(range(len(ids)))}
    found: Routed = {}
    for place, (entity, one) in enumerate(zip(entities, ids, strict=True)):
        arm, served = serving.of(entity or one)
        found.setdefault((arm.name, served), []).append(place)
    return found


def part_of(arm: str, by: ServedModel, places: Sequence[int], rows: Rows) -> Part:
    """Have the version of an arm predict its rows."""
    began = perf_counter()
    said = _said(by, rows)
    return Part(arm, by, places, said, perf_counter() - began)


def _said(by: ServedModel, rows: Rows) -> Sequence[Outputs | Exception]:
    """What a version says of each row: a row that fails does not take the others along."""
    try:
        columns = by.predict(rows)
    except Exception as failed:
        # Whatever it is: a version that breaks is as bad for its rollout as one that refuses.
        if len(rows) == 1:
            return [failed]
        middle = len(rows) // 2
        found = [*_said(by, rows[:middle]), *_said(by, rows[middle:])]
        alone = any(isinstance(one, Exception) for one in found)
        return found if alone else [failed] * len(rows)
    values = zip(*[column.tolist() for column in columns.values()], strict=True)
    return [dict(zip(columns, row, strict=True)) for row in values]
