"""A home whose models have a champion and a challenger by the ledger, for tests of rollouts."""

from pathlib import Path

from mlops_assets import judgement
from mlops_assets.core.tasks import GATES
from mlops_assets.core.verdict import Verdict
from mlops_assets.platform import Platform
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.registry import ModelVersion
from mlops_assets_tests.serving.shop_home import register, specs_in


def passed(platform: Platform, spec: ModelSpec, version: str) -> None:
    """Record that a version passed all of its gates."""
    for gate in GATES[spec.task]:
        verdict = Verdict(gate, "passed", 0.01, 0.0, 0.02, 2_000, 0.02, "it holds")
        platform.registry.record(spec.name, version, verdict, "scores")


def challenged(platform: Platform, spec: ModelSpec, seed: int = 0) -> ModelVersion:
    """Register a version that passed its gates, and make it the challenger."""
    version = register(platform, spec, seed)
    passed(platform, spec, version.version)
    platform.releases(spec).challenge(spec.name, version.version, **cause(platform, spec, version))
    return version


def released(platform: Platform, spec: ModelSpec, version: ModelVersion) -> None:
    """Make a version the champion by the ledger."""
    now = platform.ledger.state(spec.name).aliases.champion
    given = cause(platform, spec, version)
    platform.releases(spec).release(spec.name, version.version, expected_champion=now, **given)


def cause(platform: Platform, spec: ModelSpec, version: ModelVersion) -> judgement.Cause:
    found = platform.registry.version(spec.name, version.version)
    return judgement.cause(platform.registry, spec, found, actor="ann", reason="it is better")


def adopted(platform: Platform) -> tuple[ModelSpec, ...]:
    """Let the ledger take over the champions of the shop's home, all of which passed."""
    specs = specs_in(Path(platform.settings.root))
    for spec in specs:
        passed(platform, spec, "1")
        platform.releases(spec).adopt(spec.name, actor="ann", reason="they serve already")
    return specs
