"""Lineage: what a version was made from, and what was done with it, is found again and printed."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from mlops_assets.core import fingerprint
from mlops_assets.core.ledger_chain import Record
from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import DeclarationError, RegistryError, UnknownNameError
from mlops_assets.lineage import Lineage, RawTable, lineage
from mlops_assets.lineage_tree import tree
from mlops_assets.stores.ledger import Ledger
from mlops_assets.stores.releases import Releases
from mlops_assets_tests.stores.release_world import FileRegistry, evidence, release
from mlops_assets_tests.trained_world import Trained, patient, trained

# MLflow's own types, when they are imported.
pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trained]:
    """Version 1 is champion."""
    with trained(tmp_path_factory.mktemp("shop")) as found:
        client = found.platform.registry.client
        client.set_registered_model_alias("returns", "champion", "1")
        yield found


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    found = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield found
    found.close()


def of(shop: Trained, ledger: Ledger, name: str = "returns:1") -> Lineage:
    return lineage(shop.platform, ledger, shop.spec, name)


def printed(found: Lineage) -> str:
    screen = io.StringIO()
    Console(file=screen, width=200).print(tree(found))
    return screen.getvalue()


@pytest.mark.parametrize("name", ["returns", "returns@champion", "returns:1"])
def test_a_version_is_named_by_model_by_alias_or_by_number(
    shop: Trained, ledger: Ledger, name: str
) -> None:
    found = of(shop, ledger, name)
    assert (found.model, found.version, found.aliases) == ("returns", "1", ("champion",))


@pytest.mark.parametrize(
    "name", ["", "returns@", "returns:", "returns:one", "returns@a:1", "a b@c@d"]
)
def test_what_names_no_version_is_refused(shop: Trained, ledger: Ledger, name: str) -> None:
    with pytest.raises(DeclarationError, match="does not name a version"):
        of(shop, ledger, name)


def test_another_model_is_refused(shop: Trained, ledger: Ledger) -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'refunds'"):
        of(shop, ledger, "refunds:1")


def test_an_alias_that_is_not_there_is_refused_with_those_that_are(
    shop: Trained, ledger: Ledger
) -> None:
    with pytest.raises(RegistryError, match="no version of 'returns' is challenger") as refused:
        of(shop, ledger, "returns@challenger")
    assert "champion is version 1" in refused.value.expected


def test_a_version_that_is_not_there_is_refused(shop: Trained, ledger: Ledger) -> None:
    with pytest.raises(RegistryError, match="no version 9"):
        of(shop, ledger, "returns:9")


def test_the_training_set_has_its_path_rows_and_windows(shop: Trained, ledger: Ledger) -> None:
    snapshot = of(shop, ledger).snapshot
    assert snapshot is not None
    assert Path(snapshot.path).exists()
    assert Path(snapshot.path).stem == snapshot.digest == shop.version.tags["mlops.snapshot"]
    assert snapshot.rows == {"train": 4_400, "calibrate": 400, "conformalize": 400, "holdout": 400}
    assert snapshot.windows["holdout"] == "2024-01-04 to 2024-01-04"
    assert snapshot.problem is None


def test_a_training_set_that_is_gone_is_told(shop: Trained, ledger: Ledger) -> None:
    path = shop.platform.training_sets.file("returns", shop.version.tags["mlops.snapshot"])
    away = path.rename(path.with_suffix(".away"))
    try:
        found = of(shop, ledger)
    finally:
        away.rename(path)
    assert found.snapshot is not None
    assert "there is no snapshot" in str(found.snapshot.problem)
    assert found.snapshot.windows["holdout"] == "2024-01-04 to 2024-01-04"
    assert "there is no snapshot" in printed(found)


def test_a_view_has_the_digests_of_its_definition_and_of_its_table(
    shop: Trained, ledger: Ledger
) -> None:
    [view], declared = of(shop, ledger).views, shop.spec.features.views[0]
    marks = {one.name: engine.needed_mark(shop.platform.lake, one) for one in declared.sources}
    wholes = {name: mark.whole for name, mark in marks.items()}
    assert (view.name, view.sources) == ("recent_sales", ("sales",))
    assert view.definition == fingerprint.of_values(engine.definition(declared))
    assert view.table == engine.features_fingerprint(declared, wholes)


def test_a_source_has_its_mark_and_the_number_of_its_days(shop: Trained, ledger: Ledger) -> None:
    found = {one.name: one for one in of(shop, ledger).sources}
    sales = next(source for source in shop.spec.sources if source.name == "sales")
    mark = engine.needed_mark(shop.platform.lake, sales)
    assert found["sales"] == RawTable("sales", mark.whole, 3)
    # Orders name no time to read them by.
    assert found["orders"].days is None


def test_a_raw_table_that_is_gone_is_told(shop: Trained, ledger: Ledger) -> None:
    path = shop.platform.lake.file("raw/sales")
    away = path.rename(path.with_suffix(".away"))
    try:
        found = of(shop, ledger)
    finally:
        away.rename(path)
    assert RawTable("sales", None, None) in found.sources
    assert found.views[0].table is None
    assert found.recipe_now is None
    assert "not in the lake" in printed(found)


def test_the_recipe_and_the_service_are_those_of_the_training(
    shop: Trained, ledger: Ledger
) -> None:
    found = of(shop, ledger)
    assert found.recipe_then == found.recipe_now
    assert found.service_then == found.service_now
    assert "the recipe is that of the training" in printed(found)


def test_a_spec_that_has_changed_since_is_told(shop: Trained, ledger: Ledger) -> None:
    service = shop.spec.features.model_copy(update={"without": ("amount_2d",)})
    change = {"estimators": {"boosting": patient}, "features": service}
    found = lineage(shop.platform, ledger, shop.spec.model_copy(update=change), "returns")
    assert found.recipe_then == shop.version.tags["mlops.recipe"] != found.recipe_now
    assert found.service_then != found.service_now
    assert "the recipe has changed since the training" in printed(found)
    assert "declared otherwise since" in printed(found)


def test_the_code_and_the_runs_are_those_that_were_noted(shop: Trained, ledger: Ledger) -> None:
    found = of(shop, ledger)
    assert (found.git_commit, found.dagster_run) == ("c0ffee", "run-1")
    assert found.mlflow_run == shop.version.run_id


def test_the_ledger_tells_who_asked_approved_and_released_it_and_what_replaced_it(
    shop: Trained, ledger: Ledger, tmp_path: Path
) -> None:
    registry = FileRegistry(tmp_path / "registry.json")
    registry.add("1", "2", "3")
    releases = Releases(ledger, registry)
    doubtful = evidence("inconclusive")
    cause = {"reason": "it has to go out [today]", "evidence": doubtful}
    releases.request("returns", "1", actor="ann", **cause)
    releases.approve("returns", "1", actor="bob", **cause)
    release(releases, "1", evidence=doubtful)
    release(releases, "2", "1", reason="better")
    release(releases, "3", "2")  # takes the alias of version 1
    ledger.append(Record(action="request", model="returns", version="3", actor="a", reason="b"))
    ledger.append(Record(action="request", model="refunds", version="1", actor="a", reason="b"))
    found = of(shop, ledger)
    assert [(one.action, one.version, one.actor) for one in found.entries] == [
        ("request", "1", "ann"),
        ("approval", "1", "bob"),
        ("release", "1", "ann"),
        ("release", "2", "ann"),
        ("release", "3", "ann"),
    ]
    assert found.entries[2].approver == "bob"
    text = printed(found)
    assert "it has to go out [today]" in text
    assert "3. release of version 1  by ann" in text
    assert "approved by  bob" in text


def test_all_of_it_fits_into_json(shop: Trained, ledger: Ledger) -> None:
    ledger.append(Record(action="request", model="returns", version="1", actor="a", reason="b"))
    found = of(shop, ledger)
    document = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert document["snapshot"]["rows"]["holdout"] == 400
    assert document["entries"][0]["time"] == found.entries[0].time.isoformat(
        timespec="microseconds"
    )


def test_nothing_is_written(shop: Trained, ledger: Ledger) -> None:
    before = shop.platform.registry.version("returns", "1")
    of(shop, ledger)
    assert shop.platform.registry.version("returns", "1") == before
    assert ledger.entries() == []
