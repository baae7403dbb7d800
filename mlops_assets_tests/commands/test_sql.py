"""The command of questions lists what can be asked, and prints the views for others."""

from pathlib import Path

import duckdb
import pytest
from typer.testing import CliRunner

from mlops_assets.cli import app
from mlops_assets.engines import duckdb as engine
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings
from mlops_assets_tests.shop_world import SALES_CSV, recent_sales, sales


def said(*words: str) -> str:
    found = CliRunner().invoke(app, ["sql", *words])
    assert found.exit_code == 0
    return found.output


@pytest.fixture
def home(own_home: Path, tmp_path: Path) -> Platform:
    """A home with sales and their features."""
    platform = Platform(Settings())
    (tmp_path / "sales.csv").write_text(SALES_CSV)
    view = recent_sales(sales(tmp_path / "sales.csv"))
    engine.write_source(platform.lake, view.sources[0])
    engine.write_features(platform.lake, view, engine.days_of(view))
    return platform


def test_without_a_question_the_views_are_listed(home: Platform) -> None:
    listed = [line.split(",")[0].strip('"') for line in said("--format", "csv").splitlines()]
    assert listed == ["view", "features_recent_sales", "ledger", "raw_sales", "rollouts"]


def test_the_views_are_printed_with_what_is_missing_of_them(home: Platform) -> None:
    *statements, last = said("--views").splitlines()
    assert last == "-- ledger and rollouts lie in another database; `mlops-assets sql` has them"
    with duckdb.connect() as other:
        for statement in statements:
            other.execute(statement)
        assert other.execute("SELECT count(*) FROM features_recent_sales").fetchone() == (5,)
