"""The hash chain of the ledger: what an entry says, its hash, and the proof that nobody rewrote it.

One chain runs through the entries of all models: each entry names the hash of the one before, so a
change anywhere breaks the chain from there on. What a chain cannot know of itself, that its end
was cut off, is told by the head, which is kept beside the entries. Somebody who may write to the
database could forge entries, head and all hashes at once; `anchors` that were noted elsewhere, such
as the tags of the released versions, find that too.

Where entries are kept is the business of the stores; what they say, that of the releases.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from mlops_assets.errors import LedgerError

Action = Literal[
    "request",
    "approval",
    "rejection",
    "challenge",
    "release",
    "rollback",
    "archive",
    "retire",
    "reconcile",
    "reproduce",
    "adopt",
    "revert",
    "rollout",
    "advance",
    "pause",
    "resume",
    "abort",
    "finish",
    "experiment",
    "conclude",
    "retrain",
]
Fault = Literal["missing", "reordered", "unlinked", "changed", "truncated", "forged", "state"]

GENESIS = "0" * 64
"""The hash before the first entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What somebody wants to have in the ledger.

    Args:
        action: what was done.
        model: the model.
        actor: who did it.
        reason: why.
        version: the version that it is about.
        from_version: the version whose place it takes.
        evidence: what it rests on (`digest`, `verdicts`, `metrics`), as JSON can hold it.
        snapshot: the training set of the version.
        git_commit: the code that trained it.
        feature_service_digest: the definitions of its features.
        approver: who approved it.
    """

    action: Action
    model: str
    actor: str
    reason: str
    version: str | None = None
    from_version: str | None = None
    evidence: Mapping[str, Any] = field(default_factory=dict)
    snapshot: str | None = None
    git_commit: str | None = None
    feature_service_digest: str | None = None
    approver: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Record):
    """A record in its place in the chain.

    Args:
        seq: its number, from 1, over all models.
        time: when it was written, in UTC.
        before: the model's versions by alias before it.
        after: the model's versions by alias after it.
        previous_hash: hash of the entry before, `GENESIS` for the first one.
        hash: SHA-256 of all the other columns.
    """

    seq: int
    time: datetime
    before: Mapping[str, str]
    after: Mapping[str, str]
    previous_hash: str
    hash: str = ""


COLUMNS = tuple(sorted(column.name for column in fields(Entry)))


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain: number and hash of the last entry."""

    seq: int = 0
    hash: str = GENESIS


@dataclass(frozen=True, slots=True)
class Broken:
    """The first place where the chain does not hold.

    Args:
        seq: number of the entry.
        fault: what is wrong with it.
        found: what is the case, in words.
    """

    seq: int
    fault: Fault
    found: str


def canonical(value: Any) -> str:
    """The one JSON text of a value.

    >>> canonical({"b": (1, 2.50), "a": None})
    '{"a":null,"b":[1,2.5]}'

    Raises:
        LedgerError: when JSON cannot hold the value: NaN, infinity, or a type of its own.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
        # Keys become texts, and sort as such.
        return json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    except (TypeError, ValueError) as unfit:
        raise LedgerError(
            f"evidence that JSON cannot hold: {unfit}",
            expected="texts, finite numbers, flags, lists, and mappings by text",
            do="turn arrays into lists and times into texts, and leave NaN out",
        ) from unfit


def hash_of(entry: Entry) -> str:
    """SHA-256 of all columns of an entry but `hash`, as 64 hexadecimal digits."""
    columns: dict[str, Any] = {name: getattr(entry, name) for name in COLUMNS if name != "hash"}
    columns["time"] = time_text(entry.time)
    return hashlib.sha256(canonical(columns).encode()).hexdigest()


def time_text(time: datetime) -> str:
    """A time in UTC as text; texts sort as their times do.

    >>> time_text(datetime(2013, 11, 1, tzinfo=UTC))
    '2013-11-01T00:00:00.000000+00:00'
    """
    return time.astimezone(UTC).isoformat(timespec="microseconds")


def checked(record: Record) -> Record:
    """The record as it will be kept.

    Raises:
        LedgerError: when it does not say who did what and why, or cannot be kept.
    """
    texts = {
        column.name: getattr(record, column.name)
        for column in fields(record)
        if column.name != "evidence"
    }
    for name in ("model", "actor", "reason"):
        if not (texts[name] or "").strip():
            raise LedgerError(
                f"a {record.action} without {name}",
                expected="an entry that says who did what to which model, and why",
                do=f"give the {name}",
            )
    if record.action not in get_args(Action):
        raise LedgerError(
            f"the action {record.action!r}",
            expected=f"one of: {', '.join(get_args(Action))}",
            do="choose one of these",
        )
    for name, text in texts.items():
        # Postgres keeps no NUL, and no database keeps half a character.
        if text is not None and ("\0" in text or text != text.encode(errors="replace").decode()):
            raise LedgerError(
                f"the {name} {text!r}",
                expected="a text without NUL and without broken characters",
                do=f"repair the {name}",
            )
    return replace(record, evidence=json.loads(canonical(record.evidence)))


def chained(
    record: Record,
    head: Head,
    *,
    time: datetime,
    before: Mapping[str, str],
    after: Mapping[str, str],
) -> Entry:
    """The entry of a record behind the head.

    Args:
        record: what the entry says.
        head: the end of the chain now.
        time: now, with a zone.
        before: the model's versions by alias now.
        after: the model's versions by alias afterwards.

    Raises:
        LedgerError: when the record does not say who did what and why, or cannot be kept.
    """
    kept = checked(record)
    columns = {column.name: getattr(kept, column.name) for column in fields(kept)}
    place = {"seq": head.seq + 1, "time": time.astimezone(UTC), "previous_hash": head.hash}
    unhashed = Entry(**{**columns, **place, "before": dict(before), "after": dict(after)})
    return Entry(**{**_columns(unhashed), "hash": hash_of(unhashed)})


def verify(
    entries: Iterable[Entry],
    *,
    head: Head | None = None,
    states: Mapping[str, Mapping[str, str]] | None = None,
    anchors: Mapping[int, str] | None = None,
) -> Broken | None:
    """Recompute the chain; None when it holds.

    Args:
        entries: all entries, in order.
        head: the end of the chain as it is remembered; without it a cut end is not found.
        states: versions by alias, by model, as they are remembered: what the last entries left.
        anchors: hashes by number of entry that were noted elsewhere.

    Returns:
        The first place where the chain does not hold.
    """
    last, left = Head(), dict[str, tuple[int, Mapping[str, str]]]()
    for entry in entries:
        broken = _broken(entry, last, (anchors or {}).get(entry.seq))
        if broken:
            return broken
        last = Head(entry.seq, entry.hash)
        left[entry.model] = (entry.seq, entry.after)
    beyond = max((head.seq if head else 0, *(anchors or {})))
    if last.seq < beyond:
        return Broken(
            last.seq + 1, "truncated", f"the chain ends at {last.seq}, {beyond} entries are known"
        )
    if head and last != head:
        return Broken(
            last.seq, "forged", f"the head remembers entry {head.seq} with hash {head.hash[:12]}…"
        )
    for model in sorted({*left, *(states or {})} if states is not None else ()):
        seq, after = left.get(model, (last.seq, {}))
        remembered = (states or {}).get(model, {})
        if remembered != after:
            found = f"the state of {model!r} is {dict(remembered)}, entry {seq} left {dict(after)}"
            return Broken(seq, "state", found)
    return None


def _broken(entry: Entry, last: Head, anchor: str | None) -> Broken | None:
    """What is wrong with the entry that follows the last one."""
    wanted = last.seq + 1
    if entry.seq > wanted:
        return Broken(wanted, "missing", f"entry {entry.seq} follows entry {last.seq}")
    if entry.seq < wanted:
        return Broken(entry.seq, "reordered", f"entry {entry.seq} follows entry {last.seq}")
    if entry.previous_hash != last.hash:
        found = f"it follows an entry with another hash than entry {last.seq} has"
        return Broken(entry.seq, "unlinked", f"{found}: one of the two was rewritten")
    if entry.hash != hash_of(entry):
        return Broken(entry.seq, "changed", "its hash is not the hash of its columns")
    if anchor and entry.hash != anchor:
        return Broken(entry.seq, "forged", f"the hash noted elsewhere is {anchor[:12]}…")
    return None


def _columns(entry: Entry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in COLUMNS}
