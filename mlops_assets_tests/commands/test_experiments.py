"""The commands of experiments, on logs of a made-up shop."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from mlops_assets.cli import app
from mlops_assets.commands import experiments as commands
from mlops_assets.core.experiment import Experiment
from mlops_assets.errors import DeclarationError
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec, Slice
from mlops_assets_tests.experiments.experiment_world import (
    ARMS,
    begun,
    log,
    platform_in,
    served,
    spec_in,
    told,
)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Platform, ModelSpec]:
    """Ten days of 3,000 entities, of which those of the new arm bring more revenue."""
    platform = platform_in(tmp_path)
    spec = spec_in(tmp_path, slices=(Slice(name="shop_kind", column="shop"),))
    monkeypatch.setattr(commands, "opened", lambda model: (platform, spec))
    return platform, spec


def filled(platform: Platform) -> None:
    rng = np.random.default_rng(0)
    begun(platform, Experiment("e", "e", ARMS, metrics=("revenue", "minutes")))
    predictions, outcomes = [], []
    for i in range(3_000):
        arm, hours = ("old", "new")[i % 2], i % 240
        entity = {"shop": "ab"[i // 2 % 2], "item": f"{i}"}
        predictions.append(served(f"p{i}", "x", arm, hours, entity=entity))
        spent = float(rng.exponential(3)) + (1.0 if arm == "new" else 0)
        outcomes.append(told(f"p{i}", hours + 1, i % 2, revenue=spent))
    log(platform, predictions, outcomes)


def said(*words: str) -> Result:
    return CliRunner().invoke(app, ["experiment", *words], env={"COLUMNS": "160"})


def test_status_says_what_each_arm_brings(shop: tuple[Platform, ModelSpec]) -> None:
    filled(shop[0])
    shown = said("status", "returns").output
    for words in ("experiment e of returns: running", "new - old", "better", "no data", "1,500",
                  "no value of minutes is known in old and new"):  # fmt: skip
        assert words in shown


def test_status_is_readable_by_scripts(shop: tuple[Platform, ModelSpec]) -> None:
    filled(shop[0])
    found = json.loads(said("status", "returns", "--json").output)
    assert [one["verdict"] for one in found["metrics"]] == ["better", "no data"]
    assert {(one["slice"], one["level"]) for one in found["slices"]} == {
        ("shop_kind", "a"), ("shop_kind", "b")
    }  # fmt: skip
    assert found["metrics"][1]["low"] is None


def test_the_card_is_one_page_that_needs_nothing_else(
    shop: tuple[Platform, ModelSpec], tmp_path: Path
) -> None:
    filled(shop[0])
    file = tmp_path / "card.html"
    assert f"The card is in {file}." in said("status", "returns", "--card", str(file)).output
    page = file.read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!#)|url\((?!#)|<script|@import""", page)
    assert "new is better in revenue" in page
    assert page.count("<svg") == 3  # over time twice, and by slice where values are known


@pytest.mark.parametrize("name", ["card.pdf", "nowhere/card.html"])
def test_a_card_elsewhere_is_refused(
    shop: tuple[Platform, ModelSpec], tmp_path: Path, name: str
) -> None:
    found = said("status", "returns", "--card", str(tmp_path / name))
    assert isinstance(found.exception, DeclarationError)


@pytest.mark.parametrize("arm", ["old", "old=1", "old=1:half", "=1:50", "champion=1:50"])
def test_an_arm_that_cannot_be_read_is_refused(shop: tuple[Platform, ModelSpec], arm: str) -> None:
    found = said("start", "returns", "--arm", arm, "--metric", "revenue", "--reason", "why")
    assert isinstance(found.exception, DeclarationError)


def test_stop_ends_the_experiment(shop: tuple[Platform, ModelSpec]) -> None:
    filled(shop[0])
    assert "experiment e of returns: stopped" in said("stop", "returns", "--reason", "x").output
    assert shop[0].rollouts.open("returns") is None
    assert "stopped" in said("status", "returns").output


def test_plan_needs_an_effect_and_values(shop: tuple[Platform, ModelSpec]) -> None:
    words = ("plan", "returns", "--metric", "revenue", "--effect")
    assert "no data: 0 entities" in str(said(*words, "1").exception)
    filled(shop[0])
    assert isinstance(said(*words, "0", "--days", "10").exception, DeclarationError)
    found = json.loads(said(*words, "0.5", "--days", "10", "--json").output)
    assert found["per_day"] == pytest.approx(300, abs=2)
    assert found["spread"] == pytest.approx(3.04, abs=0.2)
    assert sum(found["per_arm"]) == pytest.approx(found["entities"], abs=2)
    assert "entities take part" in said(*words, "0.5", "--days", "10").output
