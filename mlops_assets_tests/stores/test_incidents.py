"""The watches of a model are kept, and what was told is told once more only after a death."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlops_assets.core.incident import (
    GONE,
    PREDICTIONS,
    Health,
    IncidentPolicy,
    Message,
    Reading,
    Subject,
)
from mlops_assets.errors import DataError
from mlops_assets.stores.incidents import WINDOWS_KEPT, Incidents

START = datetime(2026, 3, 1, tzinfo=UTC)
NOW = START + timedelta(days=9)
AMOUNT = Subject("shop", "feature_drift", "amount")


def reading(day: int, health: Health) -> tuple[Subject, Reading]:
    return AMOUNT, Reading(START + timedelta(days=day), health)


def told(store: Incidents, *healths: Health, first: int = 0) -> list[str]:
    messages: list[Message] = []
    readings = [reading(first + day, health) for day, health in enumerate(healths)]
    store.observe("shop", readings, IncidentPolicy(), messages.append, now=NOW)
    return [message.kind for message in messages]


def test_an_incident_opens_and_ends_over_several_looks(tmp_path: Path) -> None:
    assert told(Incidents(tmp_path), "critical") == []
    assert told(Incidents(tmp_path), "critical", first=1) == ["opened"]
    (found,) = Incidents(tmp_path).open("shop")
    assert (found.subject, found.since, found.opened) == (AMOUNT, START, NOW)
    assert told(Incidents(tmp_path), "fine", "fine", first=2) == ["resolved"]
    assert Incidents(tmp_path).open("shop") == []


def test_the_same_readings_tell_nothing_twice(tmp_path: Path) -> None:
    store = Incidents(tmp_path)
    assert told(store, "critical", "critical") == ["opened"]
    assert told(store, "critical", "critical") == []


def test_who_dies_before_the_file_is_written_tells_the_same_again(tmp_path: Path) -> None:
    store, keys = Incidents(tmp_path), []

    def dies(message: Message) -> None:
        keys.append(message.incident.key)
        raise KeyboardInterrupt

    bad = [reading(day, "critical") for day in range(2)]
    with pytest.raises(KeyboardInterrupt):
        store.observe("shop", bad, IncidentPolicy(), dies, now=NOW)
    store.observe("shop", bad, IncidentPolicy(), lambda m: keys.append(m.incident.key), now=NOW)
    assert len(keys) == 2
    assert keys[0] == keys[1]


def test_models_do_not_see_each_other(tmp_path: Path) -> None:
    told(Incidents(tmp_path), "critical", "critical")
    assert Incidents(tmp_path).open("other") == []


def test_old_windows_are_forgotten(tmp_path: Path) -> None:
    told(Incidents(tmp_path), *(["fine"] * (WINDOWS_KEPT + 30)))
    content = (tmp_path / "shop.json").read_text()
    assert content.count("window") == WINDOWS_KEPT


def test_a_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    told(Incidents(tmp_path), "fine")
    (tmp_path / "shop.json").write_text("{")
    with pytest.raises(DataError, match=r"shop\.json"):
        Incidents(tmp_path).open("shop")


def of_window(day: int, **healths: Health) -> list[tuple[Subject, Reading]]:
    """All readings of a monitor in a window, by name."""
    at = START + timedelta(days=day)
    whole = Subject("shop", "feature_drift", PREDICTIONS), Reading(at, "fine")
    others = [
        (Subject("shop", "feature_drift", name), Reading(at, health))
        for name, health in healths.items()
    ]
    return [whole, *others]


def kinds(store: Incidents, found: list[tuple[Subject, Reading]]) -> list[str]:
    messages: list[Message] = []
    store.observe("shop", found, IncidentPolicy(), messages.append, now=NOW)
    return [f"{one.kind} {one.incident.subject.name}: {one.reading.reason}" for one in messages]


def test_the_incident_of_who_is_no_longer_watched_ends_and_says_so(tmp_path: Path) -> None:
    store = Incidents(tmp_path)
    for day in range(2):
        kinds(store, of_window(day, amount="critical", size="fine"))
    assert kinds(store, of_window(2, size="fine")) == []
    # A window in which nobody was judged is none in which it was missed.
    assert kinds(store, of_window(3, size="no data")) == []
    assert kinds(store, of_window(4, size="fine")) == [f"resolved amount: {GONE}"]


def test_a_window_that_is_read_again_without_a_subject_takes_its_reading_back(
    tmp_path: Path,
) -> None:
    store = Incidents(tmp_path)
    for day in range(3):
        kinds(store, of_window(day, amount="no data", size="fine"))
    (incident,) = store.open("shop")
    assert incident.subject == AMOUNT
    again = [one for day in range(3) for one in of_window(day, size="fine")]
    assert kinds(store, again) == [f"resolved amount: {GONE}"]
    assert kinds(store, of_window(3, size="fine")) == []
