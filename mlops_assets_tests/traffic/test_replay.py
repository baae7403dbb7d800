"""What a replay does against servers that answer well, badly, late, or not at all."""

import json
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_assets.errors import DataError
from mlops_assets.traffic import replay
from mlops_assets.traffic.client import Answer, NoAnswer, Server
from mlops_assets.traffic.options import TrafficOptions
from mlops_assets.traffic.schedule import Row
from mlops_assets.traffic.tally import OUTCOMES, PREDICT, Tally
from mlops_assets_tests.serving.running import free_port
from mlops_assets_tests.traffic.stub import Said, Stub, predicted, serving, taken, usual

START = datetime(2013, 11, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(replay, "LONGEST_PAUSE", 0.02)


def made(count: int, *, label_after: int | None = 5) -> list[Row]:
    """A row every minute, whose label is known so many minutes later."""
    return [
        Row(n, at, {"n": n}, n % 2, None if label_after is None else at + label_after * MINUTE)
        for n in range(count)
        for at in [START + n * MINUTE]
    ]


def replayed(stub: Stub, rows: list[Row], **change: Any) -> Tally:
    options = TrafficOptions(url=stub.url, **change)
    return replay.Replay(Server(options), "m", options, Tally(len(rows))).run(iter(rows))


def adds_up(tally: Tally) -> bool:
    refused = sum(n for (what, _), n in tally.refused.items() if what == PREDICT)
    return tally.answered + refused + tally.not_asked == tally.rows


def interrupt() -> None:
    """Ctrl-C, from another thread."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def test_every_row_is_asked_once_and_every_label_goes_to_its_prediction() -> None:
    with serving() as stub:
        tally = replayed(stub, made(200))
    assert sorted(one.document["features"][0]["n"] for one in stub.of("predict")) == [*range(200)]
    assert sorted(stub.outcomes()) == sorted((f"p{n}", n % 2) for n in range(200))
    assert (tally.answered, tally.posted, tally.outstanding, tally.refused) == (200, 200, 0, {})
    assert tally.latencies()["1", "champion"].n == 200
    assert not tally.ended


def test_no_more_requests_are_in_work_than_allowed() -> None:
    def slowly(path: str, document: Any) -> Said:
        time.sleep(0.005)
        return usual(path, document)

    with serving(slowly) as stub:
        replayed(stub, made(60), connections=3)
    assert stub.most_at_once == 3


def test_outcomes_are_posted_in_batches_of_the_size_asked_for() -> None:
    with serving() as stub:
        replayed(stub, made(25), batch=10)
    sizes = [len(one.document["outcomes"]) for one in stub.of("outcomes")]
    assert max(sizes) <= 10
    assert sum(sizes) == 25


def test_a_label_that_never_comes_is_counted_and_not_posted() -> None:
    with serving() as stub:
        tally = replayed(stub, made(7, label_after=None))
    assert (tally.never, tally.posted, tally.outstanding) == (7, 0, 0)
    assert stub.outcomes() == []


def test_what_it_brought_is_posted_with_the_label() -> None:
    [row] = made(1)
    with serving() as stub:
        replayed(stub, [replace(row, values={"minutes": 3.0})])
    [one] = stub.of("outcomes")
    told = {"prediction_id": "p0", "label": 0, "values": {"minutes": 3.0}}
    assert one.document == {"outcomes": [told]}


def test_nothing_is_sent_before_its_time_on_the_sped_up_clock() -> None:
    rows = [replace(row, known_at=row.at + MINUTE / 2) for row in made(4)]
    with serving() as stub:
        began = time.monotonic()
        # A minute in 100 ms: requests after 0, 100, 200, 300 ms, outcomes 50 ms later each.
        tally = replayed(stub, rows, speed=600.0, connections=1)
    for n, one in enumerate(stub.of("predict")):
        assert one.document["features"] == [{"n": n}]
        assert one.at - began >= 0.1 * n
    # On a slow machine several are due at one time and go in one request.
    posted = [(told, one.at) for one in stub.of("outcomes") for told in one.document["outcomes"]]
    for n, (told, at) in enumerate(posted):
        assert told == {"prediction_id": f"p{n}", "label": n % 2}
        assert at - began >= 0.1 * n + 0.05
    assert tally.posted == len(posted) == 4


def test_an_outcome_that_is_due_waits_for_a_slow_prediction() -> None:
    released = threading.Event()

    def answer(path: str, document: Any) -> Said:
        if path.endswith("predict") and document["features"][0]["n"] == 0:
            assert released.wait(20)
        elif path.endswith("predict") and document["features"][0]["n"] == 9:
            released.set()
        return usual(path, document)

    with serving(answer) as stub:
        tally = replayed(stub, made(10, label_after=0), speed=60_000.0, connections=2)
    assert tally.posted == 10
    assert ("p0", 0) in stub.outcomes()


def test_an_outcome_does_not_wait_for_the_next_row_when_its_prediction_was_slow() -> None:
    def answer(path: str, document: Any) -> Said:
        if path.endswith("predict") and document["features"][0]["n"] == 0:
            time.sleep(0.1)
        return usual(path, document)

    rows = [replace(row, at=START + 10 * row.number * MINUTE, known_at=row.at) for row in made(2)]
    with serving(answer) as stub:
        # Ten minutes in a second: the outcome is known at once, its prediction 100 ms later.
        replayed(stub, rows, speed=600.0)
    sent = [one.path.rpartition("/")[2] for one in stub.asked]
    assert sent == ["predict", "outcomes", "predict", "outcomes"]


def test_a_busy_server_is_asked_again_after_the_time_that_it_says() -> None:
    refusals: dict[str, float] = {}
    again: dict[str, float] = {}

    def answer(path: str, document: Any) -> Said:
        key = f"{path}{document}"
        if key not in refusals:
            refusals[key] = time.monotonic()
            status = 429 if path.endswith("predict") else 503
            return status, {"Retry-After": "1"}, {"error": "wait"}
        again[key] = time.monotonic()
        return usual(path, document)

    with serving(answer) as stub:
        tally = replayed(stub, made(5), connections=8)
    assert (tally.answered, tally.posted, tally.refused) == (5, 5, {})
    assert tally.waits == {"429": 5, "503": 1}
    assert all(again[key] - refusals[key] >= 1 for key in refusals)


def test_a_server_that_stays_busy_is_counted_with_its_first_words() -> None:
    with serving(lambda *_: (429, {"Retry-After": "0"}, {"error": "too much"})) as stub:
        tally = replayed(stub, made(6), tries=3)
    assert tally.refused == {(PREDICT, "429"): 6}
    assert tally.first[PREDICT, "429"] == "too much"
    assert (tally.waits["429"], len(stub.of("predict"))) == (12, 18)
    assert (tally.without, tally.outstanding, adds_up(tally)) == (6, 0, True)


def test_outcomes_that_are_never_taken_are_counted_one_by_one() -> None:
    def answer(path: str, document: Any) -> Said:
        busy = (503, {"Retry-After": "0"}, {"error": "no log"})
        return predicted(document) if path.endswith("predict") else busy

    with serving(answer) as stub:
        tally = replayed(stub, made(25), batch=10, tries=2)
    assert (tally.posted, tally.refused, tally.outstanding) == (0, {(OUTCOMES, "503"): 25}, 0)


def test_refusals_are_counted_by_status_with_the_first_message() -> None:
    def answer(path: str, document: Any) -> Said:
        if path.endswith("predict") and document["features"][0]["n"] % 3 == 0:
            return 400, {}, {"error": f"bad row {document['features'][0]['n']}"}
        return usual(path, document)

    with serving(answer) as stub:
        tally = replayed(stub, made(9), connections=1)
    assert tally.refused == {(PREDICT, "400"): 3}
    assert tally.first[PREDICT, "400"] == "bad row 0"
    assert (tally.answered, tally.posted, tally.without) == (6, 6, 3)


def test_one_bad_outcome_does_not_take_others_with_it() -> None:
    def answer(path: str, document: Any) -> Said:
        if path.endswith("predict"):
            return predicted(document)
        bad = any(told["prediction_id"] == "p3" for told in document["outcomes"])
        return (400, {}, {"error": "no such label"}) if bad else taken(document)

    with serving(answer) as stub:
        tally = replayed(stub, made(8))
    assert (tally.posted, tally.refused, tally.outstanding) == (7, {(OUTCOMES, "400"): 1}, 0)


@pytest.mark.parametrize("body", [b"<html>", {"predictions": []}, {"predictions": [{}]}, []])
def test_an_answer_that_cannot_be_read_is_counted(body: Any) -> None:
    with serving(lambda *_: (200, {}, body)) as stub:
        tally = replayed(stub, made(2))
    assert tally.refused == {(PREDICT, replay.UNREADABLE): 2}


def test_a_server_that_dies_and_comes_back_loses_no_row() -> None:
    deaths: set[str] = set()

    def answer(path: str, document: Any) -> Said:
        key = f"{path}{document}"
        if key not in deaths and len(key) % 2:
            deaths.add(key)
            return None
        return usual(path, document)

    with serving(answer) as stub:
        tally = replayed(stub, made(100))
    assert (tally.answered, tally.posted, tally.refused) == (100, 100, {})
    assert tally.waits[replay.SILENT] == len(deaths) > 0


def test_a_server_that_stays_away_ends_the_replay_and_the_rest_is_counted() -> None:
    asked: list[str] = []

    def answer(path: str, document: Any) -> Said:
        asked.append(path)
        return usual(path, document) if len(asked) <= 30 else None

    with serving(answer) as stub:
        tally = replayed(stub, made(2_000), patience_seconds=0.05)
    assert "has not answered" in tally.ended
    assert tally.answered + tally.posted > 0
    assert tally.refused[PREDICT, replay.SILENT] > 0
    assert tally.first[PREDICT, replay.SILENT].startswith("RemoteDisconnected")
    assert tally.not_asked > 1_900
    assert adds_up(tally)


def test_a_server_that_is_silent_now_and_then_is_no_server_that_stays_away() -> None:
    silent: set[str] = set()

    def answer(path: str, document: Any) -> Said:
        key = f"{path}{document}"
        if key not in silent:
            silent.add(key)
            return None
        return usual(path, document)

    with serving(answer) as stub:
        options = TrafficOptions(url=stub.url, connections=1, patience_seconds=5)
        # A clock that shows how often the server was asked.
        run = replay.Replay(Server(options), "m", options, Tally(20), lambda: len(stub.asked))
        tally = run.run(made(20))
    assert (tally.ended, tally.answered, tally.posted) == ("", 20, 20)


def test_ctrl_c_ends_with_the_counts_of_what_was_sent() -> None:
    def answer(path: str, document: Any) -> Said:
        if path.endswith("predict") and document["features"][0]["n"] == 20:
            interrupt()
        return usual(path, document)

    with serving(answer) as stub:
        tally = replayed(stub, made(5_000), speed=6_000.0)
    assert tally.ended == replay.BY_HAND
    assert tally.answered == tally.asked == len(stub.of("predict")) < 5_000
    assert (adds_up(tally), tally.refused) == (True, {})
    assert tally.outstanding == tally.asked - tally.posted > 0


def test_ctrl_c_ends_a_wait_for_a_busy_server() -> None:
    def answer(path: str, document: Any) -> Said:
        interrupt()
        return 503, {"Retry-After": "60"}, {"error": "wait"}

    with serving(answer) as stub:
        tally = replayed(stub, made(1))
    assert tally.ended == replay.BY_HAND
    assert tally.refused == {(PREDICT, "503"): 1}


def test_rows_out_of_order_end_the_replay_with_the_error() -> None:
    rows = made(3)
    with serving() as stub, pytest.raises(DataError, match="after one of"):
        replayed(stub, [rows[1], rows[0]])


def test_a_fault_in_a_thread_is_raised_and_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(replay.Replay, "_read", broken)
    with serving() as stub, pytest.raises(ZeroDivisionError):
        replayed(stub, made(50))


class Moody:
    """A server that does by chance whatever servers do."""

    def __init__(self, seed: int, moods: dict[str, list[str]]) -> None:
        self.random, self.moods, self.lock = random.Random(seed), moods, threading.Lock()  # noqa: S311
        self.predicted: list[int] = []
        self.told: list[str] = []

    def ask(self, method: str, path: str, document: Any = None) -> Answer:
        what = path.rpartition("/")[2]
        with self.lock:
            mood = self.random.choice(self.moods[what])
            if mood == "silent":
                raise NoAnswer("gone")
            if mood != "well":
                return Answer(int(mood), b"{}", 0.0, 0.0)
            if what == OUTCOMES:
                self.told += [told["prediction_id"] for told in document["outcomes"]]
                return Answer(202, b"", 0.0, 0.0)
            said = predicted(document)
            assert said is not None
            self.predicted.append(document["features"][0]["n"])
            return Answer(200, json.dumps(said[2]).encode(), 0.0, 0.001)

    def close(self) -> None:
        pass


MOODS = st.fixed_dictionaries(
    {
        what: st.lists(
            st.sampled_from(["400", "413", "429", "500", "503", "silent", "well"]), min_size=1
        ).map(lambda moods: [*moods, "well"])
        for what in (PREDICT, OUTCOMES)
    }
)
TIMES = st.lists(st.tuples(st.integers(0, 30), st.none() | st.integers(0, 60)), max_size=40)


@settings(max_examples=150)
@given(TIMES, MOODS, st.integers(0, 9), st.sampled_from([1, 4]))
def test_whatever_the_server_does_every_row_and_label_is_accounted_for(
    times: list[tuple[int, int | None]], moods: dict[str, list[str]], seed: int, connections: int
) -> None:
    rows = [
        Row(n, START + at * MINUTE, {"n": n}, 1, None if k is None else START + k * MINUTE)
        for n, (at, k) in enumerate(sorted(times, key=lambda one: one[0]))
    ]
    server = Moody(seed, moods)
    options = TrafficOptions(connections=connections, tries=2, batch=3, patience_seconds=600)
    tally = Tally(len(rows))
    run = replay.Replay(server, "m", options, tally)  # type: ignore[arg-type]
    run.run(rows)
    assert adds_up(tally)
    assert tally.asked == len(rows)
    assert tally.outstanding == 0
    assert tally.never == sum(row.known_at is None for row in rows)
    assert tally.posted == len(server.told)
    # No label twice, none of a row that was not predicted, and none before its prediction.
    assert len(set(server.told)) == len(server.told)
    assert {int(name[1:]) for name in server.told} <= set(server.predicted)
    labelled = sum(row.known_at is not None and row.number in server.predicted for row in rows)
    refused = sum(n for (what, _), n in tally.refused.items() if what == OUTCOMES)
    assert tally.posted + refused == labelled
    # Nothing is kept of a row that is done with: a year of rows is many.
    assert run._ids == {}


def test_where_nobody_listens_nothing_begins() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(DataError, match="does not answer"):
        replay.check(Server(TrafficOptions(url=url)), "m", url)


@pytest.fixture
def answers_to_get(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Server]]:
    def server(status: int) -> Server:
        found = Server(TrafficOptions())
        answer = Answer(status, b'{"error": "no"}', 1.0, 0.0)
        monkeypatch.setattr(found, "ask", lambda *_: answer)
        return found

    return server  # type: ignore[return-value]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_server_that_would_refuse_every_row_is_told_at_once(
    status: int, answers_to_get: Callable[[int], Server]
) -> None:
    with pytest.raises(DataError, match=f"answers {status}: no"):
        replay.check(answers_to_get(status), "m", "url")


@pytest.mark.parametrize("status", [200, 429, 503])
def test_a_server_that_is_busy_now_may_be_asked_later(
    status: int, answers_to_get: Callable[[int], Server]
) -> None:
    replay.check(answers_to_get(status), "m", "url")
