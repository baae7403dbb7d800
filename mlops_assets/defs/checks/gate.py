"""Gates as asset checks: a verdict in, a blocking check out, and nothing else gets through.

A check that returns a bool records nothing and lets downstream run; a warning passes. So a gate
accepts verdicts only, and always blocks with severity ERROR. What a gate demands stands in
`core/evidence.py` and `core/regression_evidence.py`, whether a version may be released in
`guard.py`.
"""

import functools
from collections.abc import Callable
from typing import Any

import dagster as dg

from mlops_assets.core import tasks
from mlops_assets.core.verdict import Verdict
from mlops_assets.defs import keys, metadata, records
from mlops_assets.errors import GateError
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec


def gate(
    *, asset: dg.AssetKey, name: str, description: str
) -> Callable[[Callable[..., Any]], dg.AssetChecksDefinition]:
    """Turn a function that returns `(verdict, identity)` into a blocking asset check.

    Args:
        asset: the asset that is judged.
        name: name of the gate.
        description: what it demands.

    The check raises GateError, and so blocks, when the function returns anything else. `identity`
    is a dict of texts that name what was judged.
    """

    def wrap(judge: Callable[..., Any]) -> dg.AssetChecksDefinition:
        @dg.asset_check(asset=asset, name=name, description=description, blocking=True)
        @functools.wraps(judge)
        def checked(*args: Any, **kwargs: Any) -> dg.AssetCheckResult:
            returned = judge(*args, **kwargs)
            match returned:
                case (Verdict() as verdict, dict() as identity):
                    pass
                case _:
                    raise GateError(
                        f"the gate {name!r} returned {type(returned).__name__}: {returned!r}",
                        expected="a verdict, and what it is about",
                        do="return (Verdict, identity); anything less would let a model through",
                    )
            return dg.AssetCheckResult(
                passed=verdict.outcome == "passed",
                severity=dg.AssetCheckSeverity.ERROR,
                description=f"{verdict.outcome}: {verdict.reason}",
                metadata={**metadata.verdict(verdict), **identity},
            )

        return checked

    return wrap


def gate_checks(spec: ModelSpec) -> list[dg.AssetChecksDefinition]:
    """The gates of a model, on its calibration report."""
    rules = tasks.rules(spec.task, spec.gates.model_dump())
    return [_gate(spec, name, rule) for name, rule in rules.items()]


def _gate(spec: ModelSpec, name: str, rule: str) -> dg.AssetChecksDefinition:
    @gate(asset=keys.report(spec), name=name, description=rule)
    def judge(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> tuple[Verdict, dict[str, str]]:
        record = records.needed(context.instance, keys.report(spec))
        evidence = platform.scores.read(spec.name, record["version"], record["evidence"])
        verdict = tasks.GATES[spec.task][name](evidence, spec.gates)
        platform.registry.record(spec.name, record["version"], verdict, record["evidence"])
        identity = {n: record[n] for n in ("version", "snapshot", "evidence", "champion_compared")}
        return verdict, identity

    return judge
