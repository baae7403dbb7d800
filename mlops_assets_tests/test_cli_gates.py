"""`mlops-assets gates`: tables, JSON and picture as a user gets them, and words for bad input."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlops_assets.cli import _last_holdout, app
from mlops_assets.console import operating
from mlops_assets.core.operating import COVERAGE, ECE, Cell, World
from mlops_assets.settings import Settings
from mlops_assets.spec import GatePolicy
from mlops_assets.stores.registry import ModelRegistry
from mlops_assets_tests.end_to_end.conftest import command
from mlops_assets_tests.test_console import NOTHING, PASSED, line, printed, version


def test_explain_shows_one_size_with_its_intervals(own_home: Path) -> None:
    said = command(own_home, "gates", "explain", "flight_delay", "--n", "2000")
    assert said.returncode == 0, said.stderr
    assert "simulated holdouts at 2,000 rows, base rate 0.25" in said.stdout
    perfect = next(line for line in said.stdout.splitlines() if "perfect" in line)
    assert perfect.split() == [
        *["perfect", "0.0", "(0.0", "to", "1.0)", "100.0", "(99.0", "to", "100.0)"],
        *["0.0", "(0.0", "to", "1.0)"],
    ]
    assert "right to within 4.9 points (95%)" in said.stdout
    assert not own_home.exists()


def test_explain_shows_the_usual_sizes_and_how_much_holdout_it_takes(own_home: Path) -> None:
    said = command(own_home, "gates", "explain").stdout
    assert all(f"{n:,}" in said for n in (2_000, 5_000, 10_000, 30_000))
    assert all(len(line) <= 120 for line in said.splitlines())
    assert "how much holdout it takes" in said
    assert "never: the rule allows 0.05" in said


def test_explain_gives_json_for_scripts(own_home: Path) -> None:
    said = command(own_home, "gates", "explain", "--n", "1500", "--base-rate", "0.1", "--json")
    document = json.loads(said.stdout)
    assert (document["model"], document["base_rate"], document["runs"]) == (
        "flight_delay",
        0.1,
        400,
    )
    assert document["policy"]["ece_limit"] == 0.02
    assert len(document["cells"]) == 16
    for cell in document["cells"]:
        outcomes = [cell[name] for name in ("passed", "inconclusive", "failed")]
        assert cell["n"] == 1_500
        assert sum(share["value"] for share in outcomes) == pytest.approx(1)
        assert all(share["low"] <= share["value"] <= share["high"] for share in outcomes)


def test_the_picture_is_drawn_into_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture = tmp_path / "gates.svg"
    monkeypatch.setattr("mlops_assets.core.operating.sizes_plotted", lambda _, n: (1_500, n))
    words = ["gates", "explain", "--n", "1600", "--plot", str(picture)]
    said = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "The picture is in" in said.stdout
    assert "1,600 rows" in picture.read_text()


def test_the_last_holdout_is_shown_beside_the_usual_sizes(
    own_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(home=own_home)
    assert _last_holdout("returns", settings) == []
    (own_home / "mlflow").mkdir(parents=True)
    (own_home / "mlflow" / "mlflow.db").touch()
    versions = [version(tags={}), version(PASSED, NOTHING), version(NOTHING)]
    monkeypatch.setattr(ModelRegistry, "versions", lambda _, model: versions)
    assert _last_holdout("returns", settings) == [27_233]


def test_only_what_always_happened_is_told_as_100_percent_and_five_sizes_fit() -> None:
    sizes = (2_000, 5_000, 10_000, 27_233, 100_000)
    cells = [Cell(COVERAGE, 0.05, n, runs=400, passed=1, failed=399) for n in sizes]
    cells += [Cell(ECE, 0.0, n, runs=400, passed=400, failed=0) for n in sizes]
    text = printed(operating(World(GatePolicy()), cells))
    assert line(text, "5 points less") == ["5", "points", "less", *["<1", "0", ">99"] * 5]
    assert line(text, "perfect") == ["perfect", *["100", "0", "0"] * 5]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("--n", "1000"), "a holdout of 1,000 rows\n  expected: 1,500 to 1,000,000 rows"),
        (("--n", "0"), "a holdout of 0 rows"),
        (("--base-rate", "1.5"), "a base rate of 1.5"),
        (("--base-rate", "0"), "expected: a base rate above 0 and below 1"),
        (("flight_dela",), "did you mean flight_delay"),
        (("--plot", "gates.pdf"), "expected: a name that ends in .png or .svg"),
        (("--plot", "no/such/folder/gates.png"), "in a folder that exists"),
    ],
)
def test_bad_input_is_told_in_words(own_home: Path, words: tuple[str, ...], found: str) -> None:
    said = command(own_home, "gates", "explain", *words)
    assert said.returncode == 1
    assert found in said.stderr
    assert "to do:" in said.stderr
    assert "Traceback" not in said.stderr
