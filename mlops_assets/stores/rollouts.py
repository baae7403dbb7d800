"""Rollouts and experiments as they are kept: the state of each, and what was counted of its arms.

In the database of the ledger: every move is an entry of the ledger in the same transaction, so that
none is without the other. Which moves there are is decided in `core.rollout` and `core.experiment`,
what has to come together for a move in `rollouts.moves`. This module imports SQLAlchemy.
"""

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, Select, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from mlops_assets.core.experiment import Experiment
from mlops_assets.core.ledger_chain import Entry, Record, time_text
from mlops_assets.core.rollout import Rollout
from mlops_assets.core.routing import Arm
from mlops_assets.core.sequential import Sums
from mlops_assets.errors import OvertakenError, RolloutError
from mlops_assets.stores.ledger import Ledger
from mlops_assets.stores.ledger_tables import CLAIMS, ROLLOUTS, SUMS

_CHUNK = 500
"""Marks that one question names."""

Traffic = Rollout | Experiment
_KINDS: Mapping[str, type[Traffic]] = {"rollout": Rollout, "experiment": Experiment}


class Counted(NamedTuple):
    """What sums are of: a stage, an arm, the name of a number, and who counted it."""

    stage: str
    arm: str
    number: str
    source: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A rollout or an experiment, and what is known of it beside its state.

    Args:
        model: the model.
        traffic: its state.
        champion: the champion when it began; another one ends it.
        actor: who began it.
        entered: when it was moved last.
        seq: number of the ledger's entry of its last move.
    """

    model: str
    traffic: Traffic
    champion: str
    actor: str
    entered: datetime
    seq: int

    @property
    def is_rollout(self) -> bool:
        """Whether it is a rollout; an experiment else."""
        return isinstance(self.traffic, Rollout)


class Rollouts:
    """The rollouts and experiments of all models.

    Args:
        ledger: the ledger in whose database they are kept.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def open(self, model: str) -> Kept | None:
        """The rollout or experiment of a model that is open; at most one is."""
        return self.all_open().get(model)

    def all_open(self) -> dict[str, Kept]:
        """What is open, by model: one look for all models."""
        with self._ledger.database.reading() as connection:
            rows = connection.execute(select(ROLLOUTS).where(ROLLOUTS.c.is_open == 1)).all()
        return {row.model: _kept(row) for row in rows}

    def all(self) -> list[Kept]:
        """All rollouts and experiments, oldest first."""
        with self._ledger.database.reading() as connection:
            rows = connection.execute(select(ROLLOUTS).order_by(ROLLOUTS.c.seq)).all()
        return [_kept(row) for row in rows]

    def last(self, model: str, kind: Literal["rollout", "experiment"] | None = None) -> Kept | None:
        """The newest rollout or experiment of a model, open or closed; of one kind if named."""
        query = select(ROLLOUTS).where(ROLLOUTS.c.model == model)
        if kind is not None:
            query = query.where(ROLLOUTS.c.kind == kind)
        with self._ledger.database.reading() as connection:
            row = connection.execute(query.order_by(ROLLOUTS.c.seq.desc()).limit(1)).one_or_none()
        return None if row is None else _kept(row)

    def get(self, name: str) -> Kept:
        """A rollout or an experiment by its id.

        Raises:
            RolloutError: when there is none.
        """
        with self._ledger.database.reading() as connection:
            return _found(connection, select(ROLLOUTS).where(ROLLOUTS.c.id == name), name)

    def span(self, kept: Kept, now: datetime | None = None) -> tuple[datetime, datetime | None]:
        """When a rollout or an experiment began and ended, by its entries of the ledger.

        In the time that predictions are logged in, which the settings may have set to one of the
        past.

        Args:
            kept: the rollout or experiment.
            now: the present that the settings say.

        Returns:
            Its beginning, and its end; None while it is open.
        """
        name, since, until = kept.traffic.id, kept.entered, None
        told = self._ledger.entries(kept.model, actions=("rollout", "experiment", "conclude"))
        for entry in told:
            if name not in (entry.evidence.get("rollout"), entry.evidence.get("experiment")):
                continue
            if entry.action == "conclude":
                until = datetime.fromisoformat(str(entry.evidence.get("until", entry.time)))
            else:
                since = datetime.fromisoformat(str(entry.evidence.get("since", entry.time)))
        if until is None and not kept.traffic.is_open:
            until = kept.entered
        return (since if now is None else min(since, now)), until

    def begin(self, traffic: Traffic, champion: str, record: Record) -> Kept:
        """Keep a new rollout or experiment.

        Args:
            traffic: its first state.
            champion: the champion that all others get.
            record: what the ledger says of it.

        Raises:
            RolloutError: when the model has one that is open.
        """
        kept: list[Kept] = []

        def add(connection: Connection, entry: Entry) -> None:
            # Whoever appends has locked the end of the chain: nobody else begins one meanwhile.
            query = select(ROLLOUTS).where(ROLLOUTS.c.model == record.model)
            row = connection.execute(query.where(ROLLOUTS.c.is_open == 1)).one_or_none()
            if row is not None:
                raise _occupied(_kept(row))
            one = Kept(record.model, traffic, champion, record.actor, entry.time, entry.seq)
            connection.execute(insert(ROLLOUTS).values(_row(one)))
            kept.append(one)

        self._ledger.append(record, also=add)
        return kept[0]

    def move(self, before: Kept, after: Traffic, record: Record) -> Kept:
        """Write the next state of a rollout or an experiment.

        Args:
            before: as it was when the move was decided.
            after: its state after the move.
            record: what the ledger says of it.

        Raises:
            OvertakenError: when somebody else moved it meanwhile.
        """
        kept: list[Kept] = []

        def change(connection: Connection, entry: Entry) -> None:
            one = replace(before, traffic=after, entered=entry.time, seq=entry.seq)
            query = update(ROLLOUTS).where(
                ROLLOUTS.c.id == after.id, ROLLOUTS.c.seq == before.seq, ROLLOUTS.c.is_open == 1
            )
            if connection.execute(query.values(_row(one))).rowcount != 1:
                raise OvertakenError(
                    f"{after.id!r} of {before.model!r} was moved by somebody else meanwhile",
                    expected="one move at a time",
                    do="look at its state, and decide again",
                )
            if not after.is_open:
                connection.execute(delete(CLAIMS).where(CLAIMS.c.rollout == after.id))
            kept.append(one)

        self._ledger.append(record, also=change)
        return kept[0]

    def claim(
        self, name: str, marks: Mapping[tuple[str, str], Sequence[int]], source: str
    ) -> dict[tuple[str, str], set[int]]:
        """Ask to be the one who counts some entities: an entity is counted by whoever asks first.

        Args:
            name: id of the rollout.
            marks: hashes of entities by stage and arm, whole numbers of eight bytes.
            source: who asks.

        Returns:
            By stage and arm the marks that this source counts.
        """
        database = self._ledger.database
        new = (sqlite if database.is_sqlite else postgresql).insert(CLAIMS)
        found: dict[tuple[str, str], set[int]] = {}
        with database.writing() as connection:
            for (stage, arm), asked in marks.items():
                key = {"rollout": name, "stage": stage, "arm": arm}
                # In one order, so that two who ask for the same do not wait for each other.
                rows = [{**key, "mark": mark, "source": source} for mark in sorted(asked)]
                connection.execute(new.on_conflict_do_nothing(), rows)
                mine = select(CLAIMS.c.mark).where(
                    *(CLAIMS.c[column] == value for column, value in key.items()),
                    CLAIMS.c.source == source,
                )
                found[stage, arm] = {
                    mark
                    for some in _chunks(asked)
                    for mark in connection.scalars(mine.where(CLAIMS.c.mark.in_(some)))
                }
        return found

    def count(self, name: str, sums: Mapping[Counted, Sums]) -> None:
        """Keep running totals, in the place of all that the same source has told before.

        Args:
            name: id of the rollout.
            sums: the totals.
        """
        if not sums:
            return
        sources = {counted.source for counted in sums}
        rows = [
            {"rollout": name, **counted._asdict(), **asdict(total)}
            for counted, total in sums.items()
        ]
        with self._ledger.database.writing() as connection:
            mine = SUMS.c.rollout == name, SUMS.c.source.in_(sources)
            connection.execute(delete(SUMS).where(*mine))
            connection.execute(insert(SUMS), rows)

    def sums(self, name: str) -> dict[Counted, Sums]:
        """What was counted for a rollout or an experiment."""
        with self._ledger.database.reading() as connection:
            rows = connection.execute(select(SUMS).where(SUMS.c.rollout == name)).all()
        return {
            Counted(row.stage, row.arm, row.number, row.source): Sums(row.n, row.total, row.squares)
            for row in rows
        }


def _chunks(marks: Sequence[int]) -> Iterable[Sequence[int]]:
    return (marks[at : at + _CHUNK] for at in range(0, len(marks), _CHUNK))


def new_id() -> str:
    """An id that no rollout or experiment has."""
    return uuid.uuid4().hex[:12]


def _row(kept: Kept) -> dict[str, Any]:
    traffic = kept.traffic
    return {
        "id": traffic.id,
        "model": kept.model,
        "kind": "rollout" if kept.is_rollout else "experiment",
        "is_open": int(traffic.is_open),
        "champion": kept.champion,
        "document": json.dumps(asdict(traffic), sort_keys=True),
        "actor": kept.actor,
        "entered": time_text(kept.entered),
        "seq": kept.seq,
    }


def _kept(row: Row[Any]) -> Kept:
    document = json.loads(row.document)
    return Kept(
        model=row.model,
        traffic=_KINDS[row.kind](**{name: _tuples(name, v) for name, v in document.items()}),
        champion=row.champion,
        actor=row.actor,
        entered=datetime.fromisoformat(row.entered),
        seq=row.seq,
    )


def _tuples(name: str, value: Any) -> Any:
    """What JSON keeps as lists."""
    if name == "arms":
        return tuple(Arm(**arm) for arm in value)
    return tuple(value) if isinstance(value, list) else value


def _found(connection: Connection, query: Select[Any], name: str) -> Kept:
    row = connection.execute(query).one_or_none()
    if row is None:
        raise RolloutError(
            f"there is no rollout or experiment {name!r}",
            expected="the id of one",
            do="see `mlops-assets rollout status MODEL`",
        )
    return _kept(row)


def _occupied(kept: Kept) -> RolloutError:
    kind = "rollout" if kept.is_rollout else "experiment"
    end = "rollout abort" if kept.is_rollout else "experiment stop"
    return RolloutError(
        f"the {kind} {kept.traffic.id!r} of {kept.model!r} is open, begun by {kept.actor}",
        expected="one at a time: two would share the same traffic",
        do=f"wait for its end, or end it: mlops-assets {end} {kept.model}",
    )
