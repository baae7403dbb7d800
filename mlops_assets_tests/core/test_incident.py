"""Incidents follow from the readings, however late these come, and are told of once."""

from collections import Counter, defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mlops_assets.core.estimate import Estimate
from mlops_assets.core.incident import (
    GONE,
    Health,
    IncidentPolicy,
    Lack,
    Message,
    Reading,
    Subject,
    Watch,
    open_readings,
)
from mlops_assets.errors import DataError, DeclarationError

SUBJECT = Subject("shop", "drift", "amount")
START = datetime(2026, 1, 1, tzinfo=UTC)
DEFAULT = IncidentPolicy()
LETTERS: dict[str, Health] = {"f": "fine", "w": "warning", "c": "critical", "n": "no data"}
LACKS: dict[str, Lack] = {"d": "time", "g": "rows"}
"""Windows that are not due, and those that say nothing of the subject any more."""
LETTER = st.sampled_from([*LETTERS, *LACKS])
POLICIES = st.builds(
    lambda k, more, close, silent: IncidentPolicy(k, k + more, close, silent),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(1, 3),
    st.sampled_from([None, 1, 3]),
)


def reading(day: int, health: Health) -> Reading:
    return Reading(START + timedelta(days=day), health, f"day {day}")


def lettered(day: int, letter: str) -> Reading:
    found = reading(day, LETTERS.get(letter, "no data"))
    return replace(found, lack=LACKS.get(letter, "data"))


def observed(letters: str, policy: IncidentPolicy = DEFAULT) -> tuple[Watch, list[tuple[int, str]]]:
    """Readings day by day; the watch, and what was told on which day."""
    watch, told = Watch(SUBJECT), []
    for day, letter in enumerate(letters):
        watch, messages = watch.observe(lettered(day, letter), policy)
        told += [(day, message.kind) for message in messages]
    return watch, told


@pytest.mark.parametrize(
    ("letters", "told"),
    [
        ("fwfff", []),
        ("fwwff", [(2, "opened"), (4, "resolved")]),
        ("wfwff", [(2, "opened"), (4, "resolved")]),
        ("wffwf", []),
        ("wwfwfwff", [(1, "opened"), (7, "resolved")]),
        ("wwcff", [(1, "opened"), (2, "worsened"), (4, "resolved")]),
        ("ccwff", [(1, "opened"), (4, "resolved")]),
        ("wnwff", [(2, "opened"), (4, "resolved")]),
        ("wwfnf", [(1, "opened"), (4, "resolved")]),
        ("wwnn", [(1, "opened")]),
        ("fnn", []),
        ("fnnn", [(3, "opened")]),
        ("fnnnff", [(3, "opened"), (5, "resolved")]),
        ("wwfnnnf", [(1, "opened")]),
        ("wwffww", [(1, "opened"), (3, "resolved"), (5, "opened")]),
        ("wwffwf", [(1, "opened"), (3, "resolved")]),
        ("fdddddd", []),
        ("wdwdfdf", [(2, "opened"), (6, "resolved")]),
        ("fndndn", [(5, "opened")]),
        ("ccgg", [(1, "opened"), (3, "resolved")]),
        ("ccgfg", [(1, "opened")]),
        ("ccfgf", [(1, "opened"), (4, "resolved")]),
        ("ccggcggg", [(1, "opened"), (3, "resolved")]),
        ("ggggg", []),
        ("nnnggnn", [(2, "opened"), (4, "resolved")]),
    ],
)
def test_windows_open_and_close_an_incident(letters: str, told: list[tuple[int, str]]) -> None:
    assert observed(letters)[1] == told


def test_an_incident_says_since_when_and_how_bad() -> None:
    incident = observed("fwfcw")[0].incident
    assert incident is not None
    assert (incident.since, incident.last) == (reading(1, "fine").window, reading(4, "fine").window)
    assert (incident.severity, incident.worst.reason) == ("critical", "day 3")


def test_who_is_gone_is_not_said_to_be_well() -> None:
    watch, _ = observed("cc")
    for day in (2, 3):
        gone = Reading(START + timedelta(days=day), "no data", GONE, lack="rows")
        watch, messages = watch.observe(gone, DEFAULT)
    assert [(message.kind, message.reading.reason) for message in messages] == [("resolved", GONE)]
    assert "does not say that it is well" in GONE


def test_silence_never_resolves_an_incident() -> None:
    watch, told = observed("cc" + "n" * 20)
    assert told == [(1, "opened")]
    assert watch.incident is not None


def test_silence_is_passed_over_where_the_policy_says_so() -> None:
    assert observed("nnnnnn", IncidentPolicy(silent_after=None))[1] == []


def test_each_incident_has_a_key_of_its_own() -> None:
    watch, _ = observed("ww")
    first = watch.incident
    watch, _ = observed("wwffww")
    assert first is not None
    assert watch.incident is not None
    assert first.key != watch.incident.key
    assert first.key.startswith("shop/drift/amount/20260102T0000")


def test_a_bad_window_that_turns_out_fine_ends_the_incident_that_it_opened() -> None:
    watch, _ = observed("fww")
    watch, messages = watch.observe(reading(1, "fine"), DEFAULT)
    assert [message.kind for message in messages] == ["resolved"]
    assert watch.incident is None


def test_a_fine_window_that_turns_out_bad_brings_the_incident_forward() -> None:
    watch, _ = observed("ffww")
    watch, messages = watch.observe(reading(1, "warning"), DEFAULT)
    assert messages == ()
    assert watch.incident is not None
    assert watch.incident.since == reading(1, "fine").window


def test_a_past_incident_that_turns_up_late_and_is_over_is_not_told() -> None:
    watch, told = observed("ffffff")
    for day in (1, 2):
        watch, messages = watch.observe(reading(day, "critical"), DEFAULT)
        told += [(day, message.kind) for message in messages]
    assert told == []


def test_critical_that_was_told_is_not_untold() -> None:
    watch, _ = observed("cc")
    for day in (0, 1):
        watch, messages = watch.observe(reading(day, "warning"), DEFAULT)
        assert messages == ()
    assert watch.incident is not None
    assert watch.incident.severity == "critical"


def test_a_window_without_a_zone_is_refused() -> None:
    with pytest.raises(DataError, match="2026-01-01"):
        Watch(SUBJECT).observe(Reading(datetime(2026, 1, 1), "fine"), DEFAULT)


@pytest.mark.parametrize("numbers", [(0, 1, 1), (3, 2, 1), (1, 1, 0), (1, 1, 1, 0)])
def test_a_policy_that_makes_no_sense_is_refused(numbers: tuple[int, ...]) -> None:
    with pytest.raises(DeclarationError, match="incidents that open"):
        IncidentPolicy(*numbers)


@given(st.text("fwcndg", max_size=12), POLICIES)
def test_a_watch_comes_back_from_json_as_it_was(letters: str, policy: IncidentPolicy) -> None:
    watch, _ = observed(letters, policy)
    estimated = Reading(START + timedelta(99), "critical", "r", Estimate(0.3, 0.2, 0.4, 10))
    for one in (watch, watch.observe(estimated, policy)[0]):
        assert Watch.of_text(one.text) == one


def test_a_text_that_is_no_watch_is_refused() -> None:
    with pytest.raises(DataError, match="no watch"):
        Watch.of_text('{"readings": [{}]}')


class Watching(RuleBasedStateMachine):
    """Windows are read in any order, and again, with any outcome."""

    @initialize(policy=POLICIES)
    def begin(self, policy: IncidentPolicy) -> None:
        self.policy, self.watch = policy, Watch(SUBJECT)
        self.known: dict[int, str] = {}
        self.told: dict[str, list[str]] = defaultdict(list)
        self.order: list[Message] = []

    @rule(day=st.integers(0, 11), letter=LETTER)
    def read(self, day: int, letter: str) -> None:
        self.known[day] = letter
        self.watch, messages = self.watch.observe(lettered(day, letter), self.policy)
        assert len(messages) <= 1
        for message in messages:
            self.told[message.incident.key].append(message.kind)
            self.order.append(message)

    @rule(data=st.data())
    def read_again(self, data: st.DataObject) -> None:
        if self.known:
            day = data.draw(st.sampled_from(sorted(self.known)))
            again = self.watch.observe(lettered(day, self.known[day]), self.policy)
            assert again == (self.watch, ())

    @rule()
    def restart(self) -> None:
        self.watch = Watch.of_text(self.watch.text)

    @invariant()
    def what_is_open_is_as_if_all_had_come_in_order(self) -> None:
        watch = Watch(SUBJECT)
        for day in sorted(self.known):
            watch, _ = watch.observe(lettered(day, self.known[day]), self.policy)
        ours = self.watch.incident
        assert (ours is None) == (watch.incident is None)
        if ours is not None and watch.incident is not None:
            assert (ours.since, ours.last) == (watch.incident.since, watch.incident.last)
            assert ours.severity in (watch.incident.severity, "critical")

    @invariant()
    def each_incident_is_told_once_at_begin_and_end(self) -> None:
        for kinds in self.told.values():
            count = Counter(kinds)
            assert max(count.values()) == 1
            assert kinds[0] == "opened"
            assert "resolved" not in kinds[:-1]
        for before, after in pairwise(self.order):
            same = before.incident.key == after.incident.key
            assert same == (before.kind != "resolved")
        is_open = bool(self.order) and self.order[-1].kind != "resolved"
        assert is_open == (self.watch.incident is not None)

    @invariant()
    def it_opens_by_enough_bad_windows_and_closes_by_enough_fine_ones(self) -> None:
        bad = open_readings(self.watch.readings, self.policy)
        heard = [r.health for r in self.watch.readings if r.health != "no data"]
        if (
            heard
            and set(heard[-self.policy.close_after :]) == {"fine"}
            and (len(heard) >= self.policy.close_after and self.policy.silent_after is None)
        ):
            assert not bad
        if bad and self.policy.silent_after is None:
            assert len(bad) >= self.policy.open_k


TestWatching = Watching.TestCase
