"""From checked rows to predictions that are logged: the same for every interface.

Has the arms predict (see `arms`), appends one write to the inference log, counts. How rows come in
and how answers look is the matter of `predict`, `v2` and `invocations`.
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
from mlops_assets.serving.arms import Outputs, Part, part_of, routed
from mlops_assets.serving.columns import RowSchema, entity_rows, feature_rows
from mlops_assets.serving.evidence import Evidence
from mlops_assets.serving.model_cache import ModelCache, Serving
from mlops_assets.serving.online import OnlineFeatures, lacks_needed
from mlops_assets.serving.refusals import Refusal
from mlops_assets.serving.served_model import ServedModel
from mlops_assets.serving.shadow import Shadowed
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.inference_log import InferenceLog, Prediction


class Counts(Protocol):
    """What is told of predictions; see `metrics`."""

    def predicted(self, model: str, version: str, arm: str, rows: int, seconds: float) -> None:
        """Rows of a request that an arm answered."""
        ...

    def failed(self, model: str, version: str, arm: str, rows: int) -> None:
        """Rows of a request with which a version failed."""
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
        return _score(self.outputs)


class ModelRows:
    """What the rows of one model look like, prepared once."""

    def __init__(self, spec: ModelSpec, online: OnlineFeatures) -> None:
        self.spec, self.online = spec, online
        self.inputs = spec.inputs
        self.keys = spec.entity_keys
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

        A request is answered whole or not at all. Of one that is not, the rows that failed are
        counted and logged, each by itself; nothing is logged of the others.

        Args:
            model: its name.
            asked: the rows.
            started: when the request came, as `time.perf_counter` tells it.
            version: the version that the client wants; None for that of each row's arm.

        Raises:
            Refusal: an unknown model or version, values that a version does not take, or a log
                that does not take the records.
            Exception: whatever a version breaks with; it is counted and logged as a refusal is.
        """
        ids = [os.urandom(16).hex() for _ in asked]
        serving, keys = self.cache.get(model), self.rows[model].keys
        entities = [entity_text(one.entity, keys) for one in asked]
        parts = [
            part_of(arm, by, places, [asked[place].values for place in places])
            for (arm, by), places in routed(model, serving, entities, ids, version).items()
        ]
        answers = _answers(parts, ids, asked)
        drawn = bool(serving.table.rollout) and version is None
        if errors := {place: error for part in parts for place, error in part.errors.items()}:
            self._note_failed(model, parts)
            if drawn:
                self._compare(serving, parts, entities)
            places = sorted(errors)
            failed = [answers[place] for place in places]
            self._append(model, [asked[place] for place in places], failed, started, "refused")
            # An error of ours goes before a refusal: it has to be seen.
            raise min(errors.items(), key=lambda one: (isinstance(one[1], Refusal), one[0]))[1]
        moment = self._append(model, asked, answers, started, "ok")
        seconds = time.perf_counter() - started
        for part in parts:
            self.counts.predicted(model, part.by.version, part.arm, len(part.places), seconds)
        self._count_features(model, asked)
        if drawn:
            self._compare(serving, parts, entities)
            self._give_to_shadow(serving, moment, asked, entities, answers)
        return answers

    def _note_failed(self, model: str, parts: Sequence[Part]) -> None:
        for part in parts:
            if failed := len(part.errors):
                self.counts.failed(model, part.by.version, part.arm, failed)

    def _compare(self, serving: Serving, parts: Sequence[Part], entities: Sequence[str]) -> None:
        """Count what the arms of a rollout say of their rows.

        Of a request that is not answered, too: a version fails only with the rows that it fails
        with, and the others are those with which it would have done well.
        """
        for part in parts:
            errors, outputs = part.errors, part.outputs
            if errors:
                self.evidence.refused(serving.table, part.arm, [entities[at] for at in errors])
            if outputs:
                scores = [_score(said) for said in outputs.values()]
                named = [entities[place] for place in outputs]
                # The time that it takes to find the rows that fail is not that of an answer.
                late = part.seconds * 1000 > part.by.spec.rollout.latency_limit_ms
                self.evidence.answered(serving.table, part.arm, scores, named, late and not errors)

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


def _answers(parts: Sequence[Part], ids: Sequence[str], asked: Sequence[Asked]) -> list[Answered]:
    """All rows in their order; those that failed without outputs."""
    found = {}
    for part in parts:
        for place, said in zip(part.places, part.said, strict=True):
            outputs = {} if isinstance(said, Exception) else said
            found[place] = Answered(ids[place], part.arm, part.by, outputs, asked[place].statuses)
    return [found[place] for place in range(len(asked))]


def _score(outputs: Outputs) -> float:
    return float(next(iter(outputs.values())))


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
