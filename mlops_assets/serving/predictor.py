"""From checked rows to predictions that are logged: the same for every interface.

Routes each row to its arm, predicts by version, appends one write to the inference log, counts. How
rows come in and how answers look is the matter of `predict`, `v2` and `invocations`.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from mlops_assets.core.routing import BUCKETS, bucket
from mlops_assets.errors import DataError
from mlops_assets.rollouts.canary import SHADOW
from mlops_assets.serving.columns import RowSchema, entity_rows, feature_rows, key_names
from mlops_assets.serving.evidence import Evidence
from mlops_assets.serving.model_cache import ModelCache, Serving
from mlops_assets.serving.online import OnlineFeatures, lacks_needed
from mlops_assets.serving.refusals import Refusal
from mlops_assets.serving.served_model import ServedModel
from mlops_assets.serving.shadow import Shadowed
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.inference_log import InferenceLog, Prediction

REQUESTED = "requested"
"""Arm of a prediction whose client named the version: it is no part of any comparison."""


class Counts(Protocol):
    """What is told of predictions; see `metrics`."""

    def predicted(self, model: str, version: str, arm: str, rows: int, seconds: float) -> None:
        """Rows of a request that an arm answered."""
        ...

    def failed(self, model: str, version: str, arm: str, rows: int) -> None:
        """Rows of a request whose values a version did not take."""
        ...

    def features(self, model: str, statuses: Mapping[str, int]) -> None:
        """How many features were not present, by status."""
        ...

    def logged(self, log: str, size: int) -> None:
        """Bytes that were appended to a log."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """A row to predict.

    Args:
        values: inputs of the model in order.
        entity: keys by name; without any the arm is drawn anew.
        statuses: of the values that are not present, by name.
        event_times: of the values that were read, by name.
    """

    values: list[Any]
    entity: Mapping[str, Any]
    statuses: Mapping[str, str] = field(default_factory=dict)
    event_times: Mapping[str, datetime | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answered:
    """A row that was predicted.

    Args:
        id: of the prediction.
        arm: the arm that answered.
        by: the version that answered.
        outputs: what it says, by name.
        statuses: as they were asked with.
    """

    id: str
    arm: str
    by: ServedModel
    outputs: Mapping[str, Any]
    statuses: Mapping[str, str]

    @property
    def score(self) -> float:
        """The probability or the value that it says."""
        return float(next(iter(self.outputs.values())))


Routed = dict[tuple[str, ServedModel], list[int]]
"""Places of rows by arm and version."""


class ModelRows:
    """What the rows of one model look like, prepared once."""

    def __init__(self, spec: ModelSpec, online: OnlineFeatures) -> None:
        self.spec, self.online = spec, online
        self.inputs = spec.inputs
        self.keys = key_names(spec)
        self.features: RowSchema = feature_rows(spec)
        self.entities: RowSchema = entity_rows(spec, spec.serving.overrides)
        self._asked = [check.name for check in self.entities.required]
        self._needed = [self.inputs.index(name) for name in spec.serving.needed]
        self._given = {feature.name for feature in spec.features.features}

    def of_features(self, rows: Sequence[Any], place: str) -> list[Asked]:
        """Rows that carry all inputs.

        Raises:
            Refusal: a row that is not as declared.
        """
        found = []
        for at, row in enumerate(rows):
            values, entity = self.features.checked(row, place, at)
            for input_at in self._needed:
                if values[input_at] is None:
                    raise lacks_needed(self.spec, self.inputs[input_at], "null", f"{place}[{at}]")
            for name in self.keys:
                if name in row and name not in entity:
                    entity[name] = row[name]
            found.append(Asked(values, entity))
        return found

    def of_entities(self, rows: Sequence[Any], place: str) -> list[Asked]:
        """Rows that name entities; their features are read online.

        Raises:
            Refusal: a row that is not as declared, or whose features cannot be read.
        """
        asked, given, more = [], [], []
        for at, row in enumerate(rows):
            values, optional = self.entities.checked(row, place, at)
            asked.append(dict(zip(self._asked, values, strict=True)))
            given.append({k: v for k, v in optional.items() if k in self._given})
            more.append({k: v for k, v in optional.items() if k not in self._given})
        found = []
        for row, read, extra in zip(asked, self.online.read(asked, given), more, strict=True):
            known = {**row, **read.values}
            entity = {name: row[name] for name in self.keys}
            found.append(
                Asked(
                    [known[name] for name in self.inputs],
                    {**entity, **extra},
                    read.statuses,
                    read.event_times,
                )
            )
        return found


@dataclass(frozen=True)
class Predictor:
    """Predicts for all interfaces of a worker.

    Args:
        cache: the loaded models.
        rows: what rows look like, by model.
        log: the inference log.
        counts: is told what was done.
        evidence: counts for rollouts.
        shadow: takes the rows that a shadow shall score.
        now: the present of the platform; None for the clock.
    """

    cache: ModelCache
    rows: Mapping[str, ModelRows]
    log: InferenceLog
    counts: Counts
    evidence: Evidence
    shadow: Callable[[Sequence[Shadowed]], None]
    now: datetime | None = None

    def predict(
        self, model: str, asked: Sequence[Asked], started: float, version: str | None = None
    ) -> list[Answered]:
        """Predict rows and log them; when this returns, the answer may be sent.

        Args:
            model: its name.
            asked: the rows.
            started: when the request came, as `time.perf_counter` tells it.
            version: the version that the client wants; None for that of each row's arm.

        Raises:
            Refusal: an unknown model or version, values that a version does not take, or a log
                that does not take the records.
        """
        ids = [os.urandom(16).hex() for _ in asked]
        serving, keys = self.cache.get(model), self.rows[model].keys
        entities = [entity_text(one.entity, keys) for one in asked]
        routed = _routed(model, serving, entities, ids, version)
        found: list[Answered | None] = [None] * len(asked)
        for (arm, served), places in routed.items():
            rows = [asked[place].values for place in places]
            try:
                outputs = served.predict(rows)
            except Refusal:
                self.counts.failed(model, served.version, arm, len(rows))
                if arm != REQUESTED:
                    named = [entities[place] for place in places]
                    self.evidence.refused(serving.table, arm, named)
                refused = [
                    Answered(ids[place], arm, served, {}, asked[place].statuses) for place in places
                ]
                self._append(model, [asked[place] for place in places], refused, started, "refused")
                raise
            columns = [column.tolist() for column in outputs.values()]
            for place, values in zip(places, zip(*columns, strict=True), strict=True):
                said = dict(zip(outputs, values, strict=True))
                found[place] = Answered(ids[place], arm, served, said, asked[place].statuses)
        answers = [one for one in found if one is not None]
        moment = self._append(model, asked, answers, started, "ok")
        seconds = time.perf_counter() - started
        for (arm, served), places in routed.items():
            self.counts.predicted(model, served.version, arm, len(places), seconds)
        self._count_features(model, asked)
        if serving.table.rollout and version is None:
            self._compare(serving, routed, entities, answers, seconds)
            self._give_to_shadow(serving, moment, asked, entities, answers)
        return answers

    def _compare(
        self,
        serving: Serving,
        routed: Routed,
        entities: Sequence[str],
        answers: Sequence[Answered],
        seconds: float,
    ) -> None:
        """Count what the arms of a rollout answered."""
        for (arm, served), places in routed.items():
            scores = [answers[place].score for place in places]
            named = [entities[place] for place in places]
            slow = seconds * 1000 > served.spec.rollout.latency_limit_ms
            self.evidence.answered(serving.table, arm, scores, named, slow)

    def _give_to_shadow(
        self,
        serving: Serving,
        moment: datetime,
        asked: Sequence[Asked],
        entities: Sequence[str],
        answers: Sequence[Answered],
    ) -> None:
        table = serving.table
        if table.shadow is None:
            return
        by = serving.models[table.shadow]
        most = by.spec.rollout.shadow_share * BUCKETS
        self.shadow(
            [
                Shadowed(
                    rollout=table.rollout,
                    by=by,
                    id=answer.id,
                    time=moment,
                    values=one.values,
                    entity=one.entity,
                    statuses=one.statuses,
                    event_times=one.event_times,
                    score=answer.score,
                    named=entity,
                )
                for one, entity, answer in zip(asked, entities, answers, strict=True)
                if bucket(entity or answer.id, table.salt, f"{table.rollout} {SHADOW}") < most
            ]
        )

    def _append(
        self,
        model: str,
        asked: Sequence[Asked],
        answers: Sequence[Answered],
        started: float,
        status: str,
    ) -> datetime:
        """Log answers; gives the time that is logged."""
        moment = self.now or datetime.now(UTC)
        inputs = self.rows[model].inputs
        latency = round((time.perf_counter() - started) * 1000, 3)
        records = [
            Prediction(
                id=answer.id,
                time=moment,
                model=model,
                version=answer.by.version,
                arm=answer.arm,
                entity=one.entity,
                features=dict(zip(inputs, one.values, strict=True)),
                event_times=one.event_times,
                statuses=answer.statuses,
                outputs=answer.outputs,
                latency_ms=latency,
                status=status,
            )
            for one, answer in zip(asked, answers, strict=True)
        ]
        try:
            size = self.log.append_all(records)
        except (DataError, OSError) as full:
            raise Refusal(
                "the prediction cannot be logged at the moment",
                expected="a log that takes records: what is not logged is not answered",
                do="try again later",
                status=503,
                retry_after=10,
            ) from full
        self.counts.logged("inference", size)
        return moment

    def _count_features(self, model: str, asked: Sequence[Asked]) -> None:
        counts: dict[str, int] = {}
        for one in asked:
            for status in one.statuses.values():
                counts[status] = counts.get(status, 0) + 1
        if counts:
            self.counts.features(model, counts)


def _routed(
    model: str,
    serving: Serving,
    entities: Sequence[str],
    ids: Sequence[str],
    version: str | None,
) -> Routed:
    """Places of the rows by arm and version."""
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


def notes(model: str, answered: Sequence[Answered]) -> dict[str, Any]:
    """What the log of requests tells of predictions."""
    return {
        "model": model,
        "version": ",".join(sorted({one.by.version for one in answered})),
        "arm": ",".join(sorted({one.arm for one in answered})),
        "rows": len(answered),
        "prediction_ids": [one.id for one in answered[:10]],
    }


def entity_text(entity: Mapping[str, Any], keys: Sequence[str]) -> str:
    r"""The join keys of an entity as one text; empty where it has none of them.

    >>> entity_text({"dest": "LAX", "origin": "JFK", "id": 7}, ("origin", "dest"))
    'origin=JFK\x1fdest=LAX'
    """
    return "\x1f".join([f"{name}={entity[name]}" for name in keys if name in entity])
