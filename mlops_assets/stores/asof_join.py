"""The SQL of the point-in-time join: the feature row that holds at each entity row's time.

Here belongs the plan only: strings of SQL built from names and numbers, nothing executed. Where
the feature rows come from is told by `asof_source`; which entity rows ask is told by
`asof_entities`; Feast's interface is met in `asof_offline_store`.

The rule. For an entity row (keys, time) the answer is the feature row with the same keys and the
greatest (event time, created time) among those with event time <= time; with the cutoff on, only
rows with created time <= time take part. A null created time counts as the event time. If the
answer's event time is older than time - TTL, its features are null (the bound is inclusive). Of
rows tied on keys, event and created time any one is the answer, whole: never a mixture.

`ASOF JOIN` takes one inequality, so each plan folds the rule into one:

- `plain`: compare (event, created) as one 128-bit number, so equal event times need no grouping
  beforehand: the newest created wins in the join itself.
- `as_known`: a row is known from greatest(event, created) on. A row that some better row had
  already overtaken when it became known can never be an answer, now or later; without those rows
  the latest known row is also the greatest (event, created) known. This is the running arg-max
  of the rule, without carrying any feature values. The RANGE frame lets rows that become known at
  the same moment see each other.
"""

from dataclasses import dataclass

# (event, created) in one HUGEINT: both are microseconds in 64 bits, the event time above.
_EVENT_UNIT = 2**64
_LAST_CREATED = 2**63 - 1


def quoted(name: str) -> str:
    """Return `name` as an SQL identifier.

    >>> quoted('a"b')
    '"a""b"'
    """
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


@dataclass(frozen=True)
class FeatureSide:
    """The feature rows of one view, as SQL expressions over `relation`.

    Attributes:
        relation: a FROM item.
        condition: which rows can matter; must exclude null event times.
        keys: one expression per join key; empty for a view without entities.
        event: event time, a TIMESTAMPTZ expression.
        created: created time likewise, None if the source has none.
        features: (name in the answer, expression) pairs.
        ttl: time to live in microseconds, None for unlimited.
    """

    relation: str
    condition: str
    keys: tuple[str, ...]
    event: str
    created: str | None
    features: tuple[tuple[str, str], ...]
    ttl: int | None


@dataclass(frozen=True)
class EntitySide:
    """The entity rows: a relation with the columns row, time (microseconds), k0, k1, ...

    Attributes:
        relation: a FROM item.
        few: the rows are so few that it pays to drop feature rows of other keys first.
    """

    relation: str
    few: bool


def late_rows(side: FeatureSide) -> str:
    """One row if any feature became known after its event time, else none."""
    return (
        f"SELECT 1 FROM {side.relation} "
        f"WHERE ({side.condition}) AND {side.created} > {side.event} LIMIT 1"
    )


def plain(side: FeatureSide, entities: EntitySide) -> str:
    """The join without cutoff.

    The answer has the features in entity order and, if the view has a created time, a last column
    that is true where the answer was not yet known at the row's time.
    """
    if side.created is None:
        rows = _feature_rows(side, entities, extra="")
        return _asof(side, entities, rows, left="time", right="event", late="")
    code = f"event::HUGEINT * {_EVENT_UNIT} + created AS code, greatest(event, created) AS known"
    rows = f"SELECT * EXCLUDE (created), {code} FROM ({_feature_rows(side, entities)})"
    left = f"(time::HUGEINT * {_EVENT_UNIT} + {_LAST_CREATED})"
    return _asof(side, entities, rows, left=left, right="code", late=", r.known > l.time AS late")


def as_known(side: FeatureSide, entities: EntitySide) -> str:
    """The join with the cutoff: what was known at each entity row's time."""
    keys = ", ".join(f"k{i}" for i in range(len(side.keys)))
    partition = f"PARTITION BY {keys} " if keys else ""
    code = f"(event::HUGEINT * {_EVENT_UNIT} + created)"
    rows = (
        "SELECT * EXCLUDE (created) FROM ("
        f"SELECT *, greatest(event, created) AS known FROM ({_feature_rows(side, entities)})"
        f") QUALIFY {code} = max({code}) OVER ({partition}ORDER BY known "
        "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    )
    return _asof(side, entities, rows, left="time", right="known", late="")


def _feature_rows(side: FeatureSide, entities: EntitySide, extra: str = "created") -> str:
    columns = [f"{expression} AS k{i}" for i, expression in enumerate(side.keys)]
    columns += [f"{expression} AS f{i}" for i, (_, expression) in enumerate(side.features)]
    columns.append(f"epoch_us({side.event}) AS event")
    if extra:
        columns.append(f"coalesce(epoch_us({side.created}), epoch_us({side.event})) AS {extra}")
    rows = f"SELECT {', '.join(columns)} FROM {side.relation} WHERE {side.condition}"
    if not (entities.few and side.keys):
        return rows
    keys = [f"k{i}" for i in range(len(side.keys))]
    same = " AND ".join(f"s.{key} = e.{key}" for key in keys)
    asked = f"SELECT DISTINCT {', '.join(keys)} FROM {entities.relation}"
    return f"SELECT s.* FROM ({rows}) AS s SEMI JOIN ({asked}) AS e ON {same}"


def _asof(
    side: FeatureSide, entities: EntitySide, rows: str, *, left: str, right: str, late: str
) -> str:
    # A null on either side never matches, and LEFT keeps such rows: they come back with nulls.
    same = "".join(f"l.k{i} = r.k{i} AND " for i in range(len(side.keys)))
    fresh = "" if side.ttl is None else f"CASE WHEN r.event >= l.time - {side.ttl} THEN "
    end = "" if side.ttl is None else " END"
    features = ", ".join(
        f"{fresh}r.f{i}{end} AS {quoted(name)}" for i, (name, _) in enumerate(side.features)
    )
    return (
        f"SELECT {features}{late} "
        f"FROM (SELECT *, {left} AS moment FROM {entities.relation}) AS l "
        f"ASOF LEFT JOIN ({rows}) AS r ON {same}l.moment >= r.{right} "
        "ORDER BY l.row"
    )
