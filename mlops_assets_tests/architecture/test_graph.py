"""The graph is the one that was reviewed: no stray keys, every gate blocks."""

import dagster as dg

from mlops_assets.core.tasks import GATES
from mlops_assets.definitions import defs
from mlops_assets.defs import keys
from mlops_assets.defs.checks import rollout
from mlops_assets.monitoring.results import KINDS
from mlops_assets.showcase.flights.specs import SPECS
from mlops_assets_tests.architecture import graph


def test_the_graph_is_the_reviewed_one() -> None:
    assert graph.as_text(defs) == graph.FILE.read_text(), (
        "the graph has changed: review the difference, then run "
        "python -m mlops_assets_tests.architecture.graph"
    )


def test_every_key_is_an_asset_that_we_build() -> None:
    built = defs.resolve_asset_graph()
    assert all(built.get(key).is_materializable for key in built.get_all_asset_keys())


def test_every_gate_of_every_model_is_there_and_blocks() -> None:
    built = defs.resolve_asset_graph()
    for spec in SPECS:
        for name in GATES[spec.task]:
            assert built.get(dg.AssetCheckKey(keys.report(spec), name)).blocking


def test_every_check_blocks_but_those_that_only_tell_of_production() -> None:
    built = defs.resolve_asset_graph()
    monitors = {
        keys.monitor(spec, kind, weekly=weekly)
        for spec in SPECS
        for kind in KINDS
        for weekly in (False, True)
    }
    telling = {*monitors, keys.INFERENCE_LOG, keys.OUTCOMES_LOG}
    assert all(
        built.get(key).blocking is (key.asset_key not in telling and key.name != rollout.NAME)
        for key in built.asset_check_keys
    )


def test_the_definitions_can_be_loaded() -> None:
    dg.Definitions.validate_loadable(defs)
