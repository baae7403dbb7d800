"""What a shadow said beside what was answered, read from the lake and from open log files."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mlops_assets.cli import app
from mlops_assets.commands import rollouts as commands
from mlops_assets.core.ledger_chain import Record
from mlops_assets.core.rollout import Rollout
from mlops_assets.errors import DataError, RolloutError
from mlops_assets.platform import Platform
from mlops_assets.rollouts.shadow_report import shadow_report
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec, Slice
from mlops_assets.stores.inference_compaction import compact
from mlops_assets.stores.inference_log import InferenceLog, Prediction
from mlops_assets.stores.rollouts import Kept
from mlops_assets_tests.shop_world import returns
from mlops_assets_tests.stores.log_world import NOON, prediction


class World:
    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.platform = Platform(Settings(home=home))
        slices = (Slice(name="shop"), Slice(name="size"), Slice(name="amount_last", edges=(10.0,)))
        spec = returns(home).model_copy(update={"slices": slices, "threshold": 0.5})
        self.spec: ModelSpec = spec
        self.folder = home / "inference_log"
        self.log = InferenceLog(self.folder, "w")

    def answer(
        self, name: str, score: float, shadow: float | None, *, version: str = "2", **row: Any
    ) -> None:
        def said(arm: str, number: str, output: float | None) -> Prediction:
            return prediction(
                name,
                model="returns",
                version=number,
                arm=arm,
                entity={"shop": row.get("shop", "a"), "size": row.get("size", 3)},
                features={"amount_last": row.get("amount", 1.0)},
                outputs={} if output is None else {"probability": output},
                status="refused" if output is None else "ok",
            )

        self.log.append_all([said("champion", "1", score), said("shadow", version, shadow)])

    def begin(self, name: str = "r", version: str = "2") -> Kept:
        said = {"rollout": name, "since": NOON.isoformat()}
        who = {"actor": "ann", "reason": "why"}
        record = Record(action="rollout", model="returns", version=version, evidence=said, **who)
        return self.platform.rollouts.begin(Rollout(name, version, name), "1", record)

    def report(self) -> Any:
        return shadow_report(self.platform, self.spec, self.begin())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path / "shop")
    yield found
    found.log.close()
    found.platform.ledger.close()


def test_rows_of_lake_and_open_files_are_compared_by_id_and_slice(world: World) -> None:
    world.answer("a", 0.1, 0.2, shop="a", amount=3.0)
    world.answer("b", 0.4, 0.8, shop="b", amount=10.0)
    world.log.close()
    compact(world.folder, world.platform.lake)
    world.answer("c", 0.9, 0.7, shop="b", amount=None)
    world.answer("d", 0.9, None)
    world.answer("e", 0.3, 0.1, version="7")
    found = world.report()
    assert (found.refused, found.worst_id) == (1, "b")
    numbers = {(one.slice, one.level): (one.n, round(one.mean, 3)) for one in found.found}
    assert numbers == {
        ("", ""): (3, 0.1),
        ("shop", "a"): (1, 0.1),
        ("shop", "b"): (2, 0.1),
        ("size", "3"): (3, 0.1),
        ("amount_last", "below 10"): (1, 0.1),
        ("amount_last", "10 and above"): (1, 0.4),
        ("amount_last", "unknown"): (1, -0.2),
    }
    assert found.found[0].decisions_differ == pytest.approx(1 / 3)
    assert found.found[0].rank_correlation == pytest.approx(0.5)


def test_a_prediction_that_was_refused_is_not_compared(world: World) -> None:
    world.log.append(prediction("a", model="returns", status="refused", outputs={}))
    world.log.append(prediction("a", model="returns", arm="shadow", version="2"))
    with pytest.raises(DataError, match="no data: version 2 of 'returns' scored none of the 0"):
        world.report()


def test_without_any_row_it_says_no_data(world: World) -> None:
    with pytest.raises(DataError, match="no data"):
        world.report()


def test_the_command_shows_the_newest_shadow(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(*more: str) -> Any:
        return CliRunner().invoke(app, ["rollout", "disagreement", "returns", *more])

    monkeypatch.setattr(commands, "opened", lambda model: (world.platform, world.spec))
    assert isinstance(said().exception, RolloutError)
    world.begin()
    for at in range(4):
        world.answer(f"p{at}", at / 10, at / 10 + 0.01 * at)
    document = json.loads(said("--json").output)
    assert (document["version"], document["worst_prediction"]) == ("2", "p3")
    assert document["disagreements"][0]["n"] == 4
    shown = said().output
    assert "version 2 of returns in shadow" in shown
    assert "1.000" in shown
    assert "the worst is the prediction p3" in shown
    assert isinstance(said("--version", "9").exception, RolloutError)


def test_what_was_shown_to_it_before_its_rollout_is_no_part(world: World) -> None:
    for arm, number in (("champion", "1"), ("shadow", "2")):
        row = {"model": "returns", "arm": arm, "version": number}
        world.log.append(prediction("a", NOON - timedelta(hours=1), **row))
    with pytest.raises(DataError, match="no data"):
        world.report()
