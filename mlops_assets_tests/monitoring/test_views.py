"""One place to ask: predictions with outcomes, monitors and the ledger, and nothing to change."""

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest

from mlops_assets import views
from mlops_assets.core.ledger_chain import Record
from mlops_assets.errors import DataError
from mlops_assets_tests.monitoring.world import NOW, World


def asked(world: World, query: str, as_of: dt.datetime = NOW) -> list[dict[str, Any]]:
    with views.opened(world.platform, (world.spec,), as_of) as connection:
        return list(views.ask(connection, query).to_pylist())


def test_predictions_stand_beside_their_outcomes(world: World) -> None:
    rows = world.predict(n=50)
    world.label(rows[:20])
    (found,) = asked(
        world,
        "SELECT count(*) n, count(label) labels, sum(label) late, "
        "round(avg(probability), 9) p FROM predictions WHERE model = 'returns'",
    )
    assert found == {
        "n": 50,
        "labels": 20,
        "late": float(sum(row["y"] for row in rows[:20])),
        "p": round(sum(row["p"] for row in rows) / 50, 9),
    }


def test_labels_of_the_future_are_not_there_yet(world: World) -> None:
    rows = world.predict(n=5)
    world.label(rows)
    (found,) = asked(world, "SELECT count(label) n FROM predictions", as_of=rows[0]["at"])
    assert found == {"n": 0}


def test_monitors_are_views(world: World) -> None:
    world.label(world.predict())
    world.day()
    (found,) = asked(
        world, "SELECT count(DISTINCT feature) n FROM feature_drift WHERE slice = 'all'"
    )
    assert found["n"] >= 3
    (found,) = asked(world, "SELECT count(*) n FROM performance WHERE metric = 'log_loss'")
    assert found["n"] > 0


def test_the_ledger_and_the_logs_are_there_too(world: World) -> None:
    world.predict(n=3)
    world.platform.ledger.append(
        Record(action="retrain", model="returns", actor="ann", reason="drift", version="2")
    )
    assert asked(world, "SELECT actor, action, version FROM ledger") == [
        {"actor": "ann", "action": "retrain", "version": "2"}
    ]
    assert asked(world, "SELECT count(*) n FROM inference_log") == [{"n": 3}]
    assert asked(world, "SELECT count(*) n FROM rollouts") == [{"n": 0}]


def test_records_that_are_named_by_their_content_are_no_tables(world: World) -> None:
    world.predict(n=1)
    world.label(world.predict())
    world.day()
    lake = world.platform.lake
    for name in ("evidence/returns/1-2024abcdef", "training_sets/returns/2013abcdef0123"):
        lake.write_arrow(pa.table({"x": [1]}), lake.file(name))
    names = set(views.statements(world.platform, (world.spec,), NOW))
    assert {"inference_log", "feature_drift", "predictions"} <= names
    assert not [name for name in names if "returns" in name]


def test_the_views_can_be_made_elsewhere(world: World) -> None:
    import duckdb

    world.predict(n=4)
    with duckdb.connect() as other:
        for name, sql in views.statements(world.platform, (world.spec,), NOW).items():
            other.execute(f'CREATE VIEW "{name}" AS {sql}')
        assert other.execute("SELECT count(*) FROM predictions").fetchone() == (4,)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("COPY predictions TO '{root}/stolen.csv'", "COPY"),
        ("DROP VIEW predictions", "DROP"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("", "0 statements"),
        ("SELECT * FROM read_csv('/etc/passwd')", "Permission"),
        ("SELECT * FROM nothing", "nothing"),
        ("SELEC 1", "syntax"),
        ("SET enable_external_access = true", "SET"),
    ],
)
def test_what_is_no_question_is_refused(world: World, query: str, found: str) -> None:
    world.predict(n=1)
    with pytest.raises(DataError, match=found):
        asked(world, query.format(root=world.platform.settings.root))
    assert not (world.platform.settings.root / "stolen.csv").exists()


def test_a_home_without_anything_can_be_asked(world: World) -> None:
    assert asked(world, "SELECT count(*) n FROM ledger") == [{"n": 0}]
