"""The chain shows whether somebody has rewritten, removed, added or reordered an entry."""

import json
import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.ledger_chain import (
    COLUMNS,
    GENESIS,
    Broken,
    Entry,
    Head,
    Record,
    canonical,
    chained,
    hash_of,
    verify,
)
from mlops_assets.errors import LedgerError

START = datetime(2013, 11, 1, tzinfo=UTC)
FULL = Record(
    action="release",
    model="returns",
    actor="ann",
    reason="it is better",
    version="2",
    from_version="1",
    evidence={"digest": "d", "verdicts": {"ece": "passed"}, "metrics": {"auc": 0.75}},
    snapshot="s",
    git_commit="c",
    feature_service_digest="f",
    approver="bob",
)


def chain(n: int, *records: Record) -> list[Entry]:
    entries: list[Entry] = []
    head = Head()
    for i in range(n):
        record = records[i] if i < len(records) else replace(FULL, reason=f"reason {i}")
        time = START + timedelta(hours=i)
        after = {"champion": str(i)}
        entry = chained(record, head, time=time, before={"champion": str(i - 1)}, after=after)
        entries.append(entry)
        head = Head(entry.seq, entry.hash)
    return entries


def end(entries: list[Entry]) -> Head:
    return Head(entries[-1].seq, entries[-1].hash)


def forged(entry: Entry, **columns: Any) -> Entry:
    """A changed entry that has the right hash again."""
    changed = replace(entry, **columns)
    return replace(changed, hash=hash_of(changed))


def other(value: Any) -> Any:
    if isinstance(value, int):
        return value + 7
    if isinstance(value, datetime):
        return value + timedelta(microseconds=1)
    if isinstance(value, dict):
        return {**value, "more": 1}
    return f"{value}!"


def place(broken: Broken | None) -> tuple[int, str]:
    assert broken
    return broken.seq, broken.fault


def test_the_first_entry_follows_the_genesis_and_each_other_one_the_entry_before() -> None:
    entries = chain(3)
    assert [e.seq for e in entries] == [1, 2, 3]
    assert [e.previous_hash for e in entries] == [GENESIS, entries[0].hash, entries[1].hash]


def test_a_chain_that_nobody_touched_holds() -> None:
    entries = chain(5)
    states = {"returns": {"champion": "4"}}
    assert verify(entries, head=end(entries), states=states, anchors={3: entries[2].hash}) is None
    assert verify([], head=Head(), states={}) is None


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("at", range(4))
def test_a_changed_column_is_found_at_its_entry(column: str, at: int) -> None:
    entries = chain(4)
    changed = replace(entries[at], **{column: other(getattr(entries[at], column))})
    broken = verify([*entries[:at], changed, *entries[at + 1 :]], head=end(entries))
    assert broken
    assert broken.seq == at + 1


@pytest.mark.parametrize("column", sorted({*COLUMNS} - {"seq", "previous_hash", "hash"}))
def test_a_changed_entry_with_a_new_hash_is_found_at_the_entry_after_it(column: str) -> None:
    entries = chain(4)
    entries[1] = forged(entries[1], **{column: other(getattr(entries[1], column))})
    assert place(verify(entries)) == (3, "unlinked")


def test_a_last_entry_that_was_forged_is_found_by_the_head() -> None:
    entries = chain(4)
    faked = [*entries[:3], forged(entries[3], reason="another")]
    assert verify(faked) is None
    assert place(verify(faked, head=end(entries))) == (4, "forged")


def test_a_chain_that_was_forged_with_its_head_is_found_by_a_hash_noted_elsewhere() -> None:
    faked = chain(4, FULL, replace(FULL, actor="nobody"))
    anchors = {3: chain(4)[2].hash}
    assert verify(faked, head=end(faked)) is None
    assert place(verify(faked, head=end(faked), anchors=anchors)) == (3, "forged")


@pytest.mark.parametrize("at", range(3))
def test_a_deleted_entry_is_missing(at: int) -> None:
    entries = chain(4)
    del entries[at]
    assert place(verify(entries)) == (at + 1, "missing")


@pytest.mark.parametrize("kept", range(4))
def test_a_cut_end_is_found_by_the_head_or_by_a_hash_noted_elsewhere(kept: int) -> None:
    entries = chain(4)
    assert place(verify(entries[:kept], head=end(entries))) == (kept + 1, "truncated")
    assert place(verify(entries[:kept], anchors={4: entries[3].hash})) == (kept + 1, "truncated")


def test_an_inserted_entry_is_found() -> None:
    entries = chain(4)
    extra = forged(entries[1], seq=3, previous_hash=entries[1].hash)
    assert place(verify([*entries[:2], extra, *entries[2:]])) == (3, "reordered")
    moved = [replace(entry, seq=entry.seq + 1) for entry in entries[2:]]
    assert place(verify([*entries[:2], extra, *moved])) == (4, "unlinked")


def test_an_entry_added_behind_the_head_is_found() -> None:
    entries = chain(4)
    assert place(verify(entries, head=end(entries[:3]))) == (4, "forged")


def test_reordered_entries_are_found_with_their_numbers_and_without() -> None:
    one, two, three, four = chain(4)
    assert place(verify([one, three, two, four])) == (2, "missing")
    swapped = [one, replace(three, seq=2), replace(two, seq=3), four]
    assert place(verify(swapped)) == (2, "unlinked")


@pytest.mark.parametrize(
    "states",
    [{}, {"returns": {"champion": "1"}}, {"returns": {"champion": "3"}, "new": {"a": "1"}}],
)
def test_a_state_that_no_entry_left_is_found(states: dict[str, dict[str, str]]) -> None:
    assert place(verify(chain(4), states=states)) == (4, "state")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text()
                    | st.floats(allow_nan=False, allow_infinity=False),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_evidence_has_the_same_text_after_it_was_kept_and_read(value: Any) -> None:
    assert canonical(json.loads(canonical(value))) == canonical(value)


def test_numbers_as_keys_hash_as_the_texts_that_they_become() -> None:
    entry = chain(1, replace(FULL, evidence={9: "a", 10: ("b", "c")}))[0]
    assert entry.evidence == {"9": "a", "10": ["b", "c"]}
    assert verify([replace(entry, evidence=json.loads(canonical(entry.evidence)))]) is None


def test_a_time_of_another_zone_is_the_same_time() -> None:
    time = START.astimezone(timezone(timedelta(hours=-5)))
    one, other_zone = (chained(FULL, Head(), time=t, before={}, after={}) for t in (START, time))
    assert one == other_zone
    assert str(other_zone.time.tzinfo) == "UTC"


@pytest.mark.parametrize("value", [math.nan, math.inf, {1, 2}, START, {("a",): 1}])
def test_evidence_that_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(LedgerError, match="evidence that JSON cannot hold"):
        chain(1, replace(FULL, evidence={"a": value}))


@pytest.mark.parametrize("name", ["model", "actor", "reason"])
def test_an_entry_says_who_did_what_and_why(name: str) -> None:
    with pytest.raises(LedgerError, match=f"a release without {name}"):
        chain(1, replace(FULL, **{name: " "}))


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_a_text_that_a_database_cannot_keep_is_refused(text: str) -> None:
    with pytest.raises(LedgerError, match="the reason"):
        chain(1, replace(FULL, reason=text))


def test_an_unknown_action_is_refused() -> None:
    with pytest.raises(LedgerError, match="the action 'promote'"):
        chain(1, replace(FULL, action="promote"))
