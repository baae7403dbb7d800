"""A replay from the sources to its files, on a home of its own."""

import datetime as dt
import fcntl
import json
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.errors import DataError, DeclarationError, WindowError
from mlops_assets.platform import Platform
from mlops_assets.replay.facts import Replay
from mlops_assets.replay.replay import Files, end_day, first_day, replay
from mlops_assets.replay.walk import Progress
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.ledger import Ledger
from mlops_assets_tests.replay.replay_world import DAY, FIRST, POLICY, orders, spec

START, END = FIRST + 20 * DAY, FIRST + 45 * DAY


def write_orders(path: Path, days: int) -> None:
    found = orders(days)
    lines = ["order_id,shop,item,size,ordered_at,returned,known_at"]
    columns = [found[name] for name in ("order_id", "shop", "size", "ordered_at", "returned")]
    for order, shop, size, at, returned in zip(*columns, strict=True):
        known = at + dt.timedelta(hours=18)
        lines.append(f"{order},{shop},tea,{size},{at:%FT%TZ},{returned},{known:%FT%TZ}")
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def model(home: Path) -> ModelSpec:
    found = spec(home)
    write_orders(home / "orders.csv", 45)
    return found


@pytest.fixture(scope="module")
def done(home: Path, model: ModelSpec) -> tuple[Replay, Files, bytes]:
    """A replay, with the facts as they were written."""
    platform = Platform(Settings(home=home / "mlops"))
    found, files = replay(platform, model, START, END, POLICY)
    return found, files, files.json.read_bytes()


def again(home: Path, model: ModelSpec, **change: Any) -> tuple[Replay, Files]:
    platform = Platform(Settings(home=home / "mlops"))
    return replay(platform, model, **{"start": START, "end": END, "policy": POLICY, **change})


def test_a_replay_computes_what_is_missing_and_writes_all_of_its_files(
    done: tuple[Replay, Files, bytes], home: Path
) -> None:
    found, files, facts = done
    assert files.folder == home / "mlops/replay/returns/2023-10-21_2023-11-14"
    assert json.loads(facts) == found.document()
    assert files.png.read_bytes().startswith(b"\x89PNG")
    assert files.html.read_text().startswith("<!DOCTYPE html>")
    assert not [path for path in files.folder.iterdir() if "fresh" in path.name]
    assert len(found.retrains) >= 3


def test_twice_the_same_is_byte_for_byte_the_same_and_trains_nothing(
    done: tuple[Replay, Files, bytes], home: Path, model: ModelSpec
) -> None:
    _, files, facts = done
    before = files.html.read_bytes(), files.png.read_bytes()
    told: list[Progress] = []
    again(home, model, listener=told.append)
    assert files.json.read_bytes() == facts
    assert (files.html.read_bytes(), files.png.read_bytes()) == before
    assert {one.fresh for one in told} == {None, False}


def test_another_policy_has_files_of_its_own_and_shares_what_was_trained(
    done: tuple[Replay, Files, bytes], home: Path, model: ModelSpec
) -> None:
    _, files, facts = done
    told: list[Progress] = []
    direct = POLICY.model_copy(update={"canary": None})
    _, others = again(home, model, policy=direct, name="direct", listener=told.append)
    assert others.folder.name == "2023-10-21_2023-11-14_direct"
    assert {one.fresh for one in told} == {None, False}
    assert files.json.read_bytes() == facts


def test_two_replays_do_not_write_into_the_same_folder(
    done: tuple[Replay, Files, bytes], home: Path, model: ModelSpec
) -> None:
    _, files, facts = done
    with (files.folder / "lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process replays into"):
            again(home, model)
    assert files.json.read_bytes() == facts


def test_the_chain_of_the_ledger_holds_and_its_times_are_those_of_the_replay(
    done: tuple[Replay, Files, bytes],
) -> None:
    found, files, _ = done
    ledger = Ledger(f"sqlite:///{files.folder / 'ledger.db'}")
    try:
        assert ledger.verify() is None
        times = [entry.time.date() for entry in ledger.entries()]
        assert ledger.head().hash == found.ledger["head"]
    finally:
        ledger.close()
    assert START <= min(times) <= max(times) < END


def test_the_real_releases_of_the_home_are_left_alone(
    done: tuple[Replay, Files, bytes], home: Path
) -> None:
    assert {path.name for path in (home / "mlops").iterdir()} == {"feast", "lake", "replay"}


def test_a_last_day_before_the_first_is_refused(home: Path, model: ModelSpec) -> None:
    with pytest.raises(WindowError, match="a replay from 2023-11-15 to 2023-10-20"):
        again(home, model, start=END, end=START)


def test_dates_without_data_are_told_with_those_that_have_some(
    done: tuple[Replay, Files, bytes], home: Path, model: ModelSpec
) -> None:
    with pytest.raises(WindowError, match="there is no row") as error:
        again(home, model, start=dt.date(2031, 1, 1), end=dt.date(2031, 2, 1))
    assert "2023-10-01 to 2023-11-14" in str(error.value)


def test_a_model_of_numbers_is_refused(home: Path, model: ModelSpec) -> None:
    numbers = model.model_copy(update={"task": "regression"})
    with pytest.raises(DeclarationError, match="predicts a number"):
        again(home, numbers)


@pytest.mark.parametrize("text", ["2013", "2013-13", "2013-02-30", "March", "2013-3", ""])
def test_what_is_neither_month_nor_day_is_refused(text: str) -> None:
    with pytest.raises(WindowError, match="neither a month nor a day"):
        first_day(text)


def test_months_and_days_include_their_end() -> None:
    assert (first_day("2013-02"), end_day("2013-02")) == (dt.date(2013, 2, 1), dt.date(2013, 3, 1))
    assert end_day("2013-12-31") == dt.date(2014, 1, 1)
