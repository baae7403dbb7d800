"""A gate accepts verdicts only: what Dagster would let through is an error here."""

from typing import Any

import dagster as dg
import pytest

from mlops_assets.core.verdict import Verdict
from mlops_assets.defs.checks.gate import gate
from mlops_assets.errors import GateError

KEY = dg.AssetKey("judged")
SURE = Verdict("limit", "passed", 0.01, 0.005, 0.015, 2_000, 0.02, "well below")


def verdict(outcome: Any) -> Verdict:
    return Verdict("limit", outcome, 0.03, 0.01, 0.05, 2_000, 0.02, "because")


def run(instance: dg.DagsterInstance, returned: Any) -> dg.ExecuteInProcessResult:
    @dg.asset(key=KEY)
    def judged() -> None: ...

    @dg.asset(deps=[KEY])
    def downstream() -> None: ...

    @gate(asset=KEY, name="limit", description="below the limit")
    def limit(context: dg.AssetCheckExecutionContext) -> Any:
        return returned

    return dg.materialize([judged, downstream, limit], instance=instance, raise_on_error=False)


def went_on(result: dg.ExecuteInProcessResult) -> bool:
    return bool(result.asset_materializations_for_node("downstream"))


def test_a_passed_verdict_lets_the_run_go_on(instance: dg.DagsterInstance) -> None:
    result = run(instance, (SURE, {"version": "1"}))
    assert result.success
    assert went_on(result)


@pytest.mark.parametrize("outcome", ["failed", "inconclusive"])
def test_any_other_verdict_stops_the_run(instance: dg.DagsterInstance, outcome: str) -> None:
    result = run(instance, (verdict(outcome), {}))
    assert not result.success
    assert not went_on(result)


@pytest.mark.parametrize("returned", [True, False, None, SURE, (True, {}), (SURE, None)])
def test_what_is_no_verdict_stops_the_run_and_records_nothing(
    instance: dg.DagsterInstance, returned: Any
) -> None:
    result = run(instance, returned)
    record = instance.get_latest_asset_check_evaluation_record(dg.AssetCheckKey(KEY, "limit"))
    assert not went_on(result)
    assert record is None or record.status.value != "SUCCEEDED"


def test_the_error_says_what_was_returned() -> None:
    @gate(asset=KEY, name="limit", description="below the limit")
    def limit(context: dg.AssetCheckExecutionContext) -> Any:
        return True

    with pytest.raises(GateError, match="returned bool: True"):
        limit(dg.build_asset_check_context())


def test_a_verdict_is_recorded_with_its_numbers_and_what_it_is_about(
    instance: dg.DagsterInstance,
) -> None:
    result = run(instance, (SURE, {"version": "7"}))
    [evaluation] = result.get_asset_check_evaluations()
    values = {name: value.value for name, value in evaluation.metadata.items()}
    assert values["verdict"] == "passed"
    assert values["version"] == "7"
    assert (values["estimate"], values["low"], values["high"]) == (0.01, 0.005, 0.015)
