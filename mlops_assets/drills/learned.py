"""Drills on what is trained: a feature that holds the label, and scores that do not mean it.

A fault of these is caught before anything is served, or it is served for good.
"""

from typing import TYPE_CHECKING

from mlops_assets.drills import shop, training
from mlops_assets.drills.finding import NOBODY, Drill, Finding, need_sound
from mlops_assets.errors import ReleaseRefusedError
from mlops_assets.inference.assembly import assembled

if TYPE_CHECKING:
    from mlops_assets.core.verdict import Verdict
    from mlops_assets.drills.home import World
    from mlops_assets.platform import Platform
    from mlops_assets.spec import ModelSpec
    from mlops_assets.stores.registry import ModelVersion
    from mlops_assets.stores.training_sets import TrainingSet

LEAK, ECE = "no_label_in_features", "ece_below_limit"
OPEN_AUC, OPEN_ECE = 0.9999, 0.99
LOST_SHARE = 0.6
"""Share of the late orders that the rows of the calibration have lost."""


def label_leak(world: "World", guarded: bool) -> Finding:
    """A feature is added that is known only after the label, and tells it."""
    gates = shop.GATES
    if not guarded:
        gates = gates.model_copy(update={"single_feature_auc_limit": OPEN_AUC})
    leaky = world.spec(features=shop.service(shop.view(world.files), shop.REFUND), gates=gates)
    with world.own("label_leak") as platform:
        sound = _leak_verdict(platform, world.spec(gates=gates), training.champion_data(platform))
        need_sound(sound.outcome == "passed", "label_leak", sound.reason)
        platform.features.apply((leaky.features,))
        data = assembled(platform, leaky, leaky.windows, {})
        verdict = _leak_verdict(platform, leaky, data)
        caught = verdict.outcome != "passed"
        became = "" if caught else _trained(platform, leaky, data)
    return Finding(
        "label_leak",
        caught,
        verdict.gate if caught else NOBODY,
        f"{verdict.n:,} rows, before training" if caught else f"not in {verdict.n:,} rows",
        "the champion of before: nothing was trained"
        if caught
        else "a champion that needs to know the refund before the order is late",
        verdict.reason if caught else became,
    )


def _leak_verdict(platform: "Platform", spec: "ModelSpec", data: "TrainingSet") -> "Verdict":
    """What the check of the training set says."""
    from mlops_assets.core import leakage
    from mlops_assets.engines import knowable
    from mlops_assets.stores.training_sets import SPLIT

    path = platform.training_sets.file(spec.name, data.snapshot)
    part = (SPLIT, "train")
    inputs, labels = knowable.ranked_inputs(
        platform.lake, path, spec.inputs, spec.label.column, part
    )
    return leakage.no_label_in_features(inputs, labels, spec.gates.single_feature_auc_limit)


def _trained(platform: "Platform", spec: "ModelSpec", data: "TrainingSet") -> str:
    """Go on as if nothing was: train, judge, release."""
    version = training.registered(platform, spec, data, training.fit(spec, data))
    verdicts = training.judged(platform, spec, version, data)
    training.released(platform, spec, version.version, actor="drill")
    auc = platform.registry.metrics(version.run_id)["auc"]
    passed = sum(one.outcome == "passed" for one in verdicts.values())
    return f"{passed} of {len(verdicts)} gates passed, AUC {auc:.3f} on holdout; it was released"


def miscalibrated_candidate(world: "World", guarded: bool) -> Finding:
    """The rows that a candidate is calibrated on have lost labels: its scores are pushed down."""
    limit = shop.GATES.ece_limit if guarded else OPEN_ECE
    spec = world.spec(gates=shop.GATES.model_copy(update={"ece_limit": limit}))
    with world.own("miscalibrated_candidate") as platform:
        data = training.champion_data(platform)
        champion = platform.registry.version(spec.name, "1")
        told = {one.gate: one for one in champion.verdicts}
        need_sound(told[ECE].outcome == "passed", "miscalibrated_candidate", told[ECE].reason)
        version = pushed(platform, spec, data)
        verdicts = training.judged(platform, spec, version, data)
        refused = ""
        try:
            training.released(platform, spec, version.version, actor="drill")
        except ReleaseRefusedError as error:
            refused = error.found
        serving = platform.ledger.state(spec.name).aliases.champion
    failed = [name for name, one in verdicts.items() if one.outcome != "passed"]
    caught = bool(failed and refused)
    rows = verdicts[ECE].n
    return Finding(
        "miscalibrated_candidate",
        caught,
        ", ".join(failed) if caught else NOBODY,
        f"{rows:,} rows of holdout" if caught else f"not in {rows:,} rows of holdout",
        f"version {serving}, {'the champion of before' if caught else 'the candidate'}",
        verdicts[ECE].reason + (f"; {refused}" if refused else "; it was released"),
    )


def pushed(platform: "Platform", spec: "ModelSpec", data: "TrainingSet") -> "ModelVersion":
    """Register a version whose calibration has learned from rows that lack late orders."""
    rows = training.thinned(data.rows("calibrate"), LOST_SHARE, shop.SEED)
    return training.registered(platform, spec, data, training.fit(spec, data, calibrate=rows))


DRILLS = (
    Drill(
        "label_leak",
        "A feature that is known only after the label comes into the training set.",
        LEAK,
        f"the policy's limit of the AUC of one feature is {OPEN_AUC}",
        label_leak,
    ),
    Drill(
        "miscalibrated_candidate",
        "A candidate's scores are pushed: it was calibrated on rows that lost late orders.",
        ECE,
        f"the policy's limit of the calibration error is {OPEN_ECE}",
        miscalibrated_candidate,
    ),
)
