"""Asset checks of features: contracts of feature views by day, and leakage into training sets.

Which checks there are and what they are about; views are judged in `engines/feature_contract.py`,
training sets in `core/leakage.py`. Contracts of other tables are in `contracts.py`.
"""

import datetime as dt
from pathlib import Path
from typing import Any

import dagster as dg

from mlops_assets.core.verdict import Verdict
from mlops_assets.defs import keys, records
from mlops_assets.defs.checks.gate import gate
from mlops_assets.engines import feature_contract as contract
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.training_sets import SPLIT
from mlops_assets.tables import FeatureView
from mlops_assets.windows import SPLITS

SAMPLE_ROWS = 2_000
PLANT_ROWS = 100
"""Rows in which a value of the future is looked for, to be planted."""


def view_checks(view: FeatureView) -> list[dg.AssetChecksDefinition]:
    """The checks of a feature view: its contract, rule by rule, and freshness."""
    return [*(_rule_check(view, name) for name in contract.RULES), _fresh_check(view)]


def _rule_check(view: FeatureView, name: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=keys.features(view),
        name=name,
        blocking=True,
        description=contract.RULES[name].description,
    )
    def check(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        return _result(contract.judged(platform.lake, view, name))

    return check


def _fresh_check(view: FeatureView) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=keys.features(view),
        name="fresh",
        blocking=True,
        description=f"The newest event is at most {view.ttl} old: older values are not served.",
    )
    def fresh(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        return _result(contract.fresh(platform.lake, view, dt.datetime.now(dt.UTC)))

    return fresh


def _result(found: contract.Finding) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=found.holds,
        severity=dg.AssetCheckSeverity.ERROR if found.blocks else dg.AssetCheckSeverity.WARN,
        description=found.reason,
        metadata={**found.counts},
    )


def leakage_checks(spec: ModelSpec) -> list[dg.AssetChecksDefinition]:
    """The leakage checks of a model's training set; without stored features nothing can be late."""
    checks = (_leakage_free, _no_label_in_features)
    return [check(spec) for check in (checks if spec.features.views else checks[1:])]


def _leakage_free(spec: ModelSpec) -> dg.AssetChecksDefinition:
    @gate(
        asset=keys.training_set(spec),
        name="leakage_free",
        description=f"In {SAMPLE_ROWS:,} rows, every stored feature is what was knowable then, "
        "recomputed by brute force; a planted value of the future is found.",
    )
    def judge(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> tuple[Verdict, dict[str, str]]:
        from mlops_assets.core import leakage
        from mlops_assets.engines import knowable

        path, identity = _snapshot(context, platform, spec)
        used = [(view, spec.features.used(view)) for view in spec.features.views]
        names = [feature.name for _, features in used for feature in features]
        join_keys = [entity.name for view, _ in used for entity in view.entities]
        rows = knowable.sample(
            platform.lake, path, [*join_keys, *names], spec.rows.row_id, SAMPLE_ROWS, spec.seed
        )
        expected: dict[str, list[Any]] = {}
        plants = []
        for view, features in used:
            if features and rows.num_rows:
                known = knowable.answers(platform.lake, view, rows, "known", features)
                few = rows.slice(0, PLANT_ROWS)
                future = knowable.answers(platform.lake, view, few, "future", features)
                plants.append(leakage.plant(known, future))
                expected.update(known)
        found = {name: rows[name].to_pylist() for name in names}
        ids = rows[spec.rows.row_id].to_pylist()
        return leakage.leakage_free(ids, found, expected, plants), identity

    return judge


def _no_label_in_features(spec: ModelSpec) -> dg.AssetChecksDefinition:
    limit = spec.gates.single_feature_auc_limit

    @gate(
        asset=keys.training_set(spec),
        name="no_label_in_features",
        description=f"No input alone ranks the label of the training rows above an AUC of {limit}.",
    )
    def judge(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> tuple[Verdict, dict[str, str]]:
        from mlops_assets.core import leakage
        from mlops_assets.engines import knowable

        path, identity = _snapshot(context, platform, spec)
        inputs, labels = knowable.ranked_inputs(
            platform.lake,
            path,
            spec.inputs,
            spec.label.column,
            (SPLIT, SPLITS[0]),
            numbers=spec.task == "regression",
        )
        return leakage.no_label_in_features(inputs, labels, limit), identity

    return judge


def _snapshot(
    context: dg.AssetCheckExecutionContext, platform: Platform, spec: ModelSpec
) -> tuple[Path, dict[str, str]]:
    """The file of the training set that the graph says is the newest, and its name."""
    snapshot = records.needed(context.instance, keys.training_set(spec))["snapshot"]
    return platform.training_sets.file(spec.name, snapshot), {"snapshot": snapshot}
