"""The steps of a move of aliases, one by one: what makes a release survive a crash at any point.

The intent is written first. From then on each step can be repeated, so whoever finds an intent
that nobody works on goes through the steps once more: `settle`. Which move is made, and whether it
may be made, is decided in `releases`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from mlops_assets.core.ledger_chain import Entry, Record
from mlops_assets.core.release_plan import ORDER, Alias, Aliases, stages
from mlops_assets.core.release_state import Intent

if TYPE_CHECKING:
    from mlops_assets.stores.ledger import Ledger

Observer = Callable[[str], None]


class Registry(Protocol):
    """What a release needs of a model registry. Every verb can be repeated."""

    def aliases(self, model: str) -> Mapping[str, str]:
        """Versions by alias; empty for a model that is not there."""

    def has(self, model: str, version: str) -> bool:
        """Whether a version is there."""

    def set_alias(self, model: str, alias: str, version: str | None) -> None:
        """Point an alias at a version; None removes it."""

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""


@dataclass(frozen=True, slots=True)
class Work:
    """What the steps work on.

    Args:
        ledger: the ledger.
        registry: the registry.
        last_words: what the ledger says at the end, beside the entry of the move itself.
    """

    ledger: "Ledger"
    registry: Registry
    last_words: Record | None = None


Step = tuple[str, Callable[[Work, Intent], Intent]]


def _write_intent(work: Work, intent: Intent) -> Intent:
    work.ledger.begin(intent)
    return intent


def _moving(alias: Alias) -> Step:
    def move(work: Work, intent: Intent) -> Intent:
        target = intent.after.version(alias)
        if intent.found.version(alias) != target:
            work.registry.set_alias(intent.record.model, alias, target)
        return intent

    return f"move {alias}", move


def _write_entry(work: Work, intent: Intent) -> Intent:
    return work.ledger.record(intent)


def _tag_versions(work: Work, intent: Intent) -> Intent:
    """Say on each version what it is now, and where the ledger says so.

    With the hash on the version, a ledger that was forged as a whole can be found.
    """
    entry = work.ledger.entry(intent.seq or 0)
    said = {"mlops.ledger_seq": str(entry.seq), "mlops.ledger_hash": entry.hash}
    changed: dict[str, str] = dict(stages(intent.before, intent.after))
    if entry.version is not None:
        retired = entry.action == "retire"
        changed[entry.version] = "retired" if retired else intent.after.stage(entry.version)
    for version, stage in changed.items():
        if work.registry.has(entry.model, version):
            tags = {"mlops.stage": stage, **said, **_release_tags(entry, version)}
            work.registry.tag(entry.model, version, tags)
    return intent


def _release_tags(entry: Entry, version: str) -> Mapping[str, str]:
    if entry.action != "release" or version != entry.version:
        return {}
    at = entry.time.isoformat(timespec="seconds")
    evidence = str(entry.evidence.get("digest", ""))
    return {
        "mlops.released_at": at,
        "mlops.released_by": entry.actor,
        "mlops.evidence": evidence,
    }


def _end_intent(work: Work, intent: Intent) -> Intent:
    # A move that was undone has no entry: then the last words say what is left.
    work.ledger.end(intent, work.last_words, after=None if intent.seq else intent.after)
    return intent


MOVING: tuple[Step, ...] = tuple(_moving(alias) for alias in ORDER)

STEPS: tuple[Step, ...] = (
    ("write intent", _write_intent),
    *MOVING,
    ("write entry", _write_entry),
    ("tag versions", _tag_versions),
    ("end intent", _end_intent),
)
"""All steps of a move, by name, in their order."""

AFTER_ENTRY = STEPS[-2:]
"""What is left to do once the entry is written."""


def carry_out(work: Work, intent: Intent, observer: Observer) -> Entry:
    """Make a move from its beginning to its end.

    Args:
        work: what it is done with.
        intent: the move.
        observer: is told each step before it is done.

    Returns:
        The entry of the move.
    """
    try:
        done = _run(STEPS, work, intent, observer)
    except Exception as error:
        error.add_note(
            f"the {intent.record.action} of {intent.record.model!r} may be half done; the next "
            "move of the model, or `reconcile`, finishes it"
        )
        raise
    return work.ledger.entry(done.seq or 0)


def settle(work: Work, intent: Intent, actor: str, observer: Observer) -> Entry:
    """Finish a move that was left by a crash, or undo it when its version is gone.

    Args:
        work: what it is done with.
        intent: what was left.
        actor: who cleans up.
        observer: is told each step before it is done.

    Returns:
        The entry that says so.
    """
    model = intent.record.model
    found = Aliases.of(work.registry.aliases(model))
    gone = _gone(work.registry, model, intent.before, intent.after)
    target = intent.record.version
    undone = intent.seq is None and target in gone and target in intent.after.versions.values()
    steps: Iterable[Step] = AFTER_ENTRY if intent.seq else STEPS[1:]
    if undone:
        intent, steps = replace(intent, after=intent.before), (*MOVING, STEPS[-1])
    if intent.seq is None:
        intent = replace(intent, after=intent.after.without(gone), found=found)
    said = _last_words(intent, actor, found, undone=undone)
    _run(steps, replace(work, last_words=said), intent, observer)
    return work.ledger.entries(model, actions=("reconcile",), last=1)[-1]


def _run(steps: Iterable[Step], work: Work, intent: Intent, observer: Observer) -> Intent:
    for name, step in steps:
        observer(name)
        intent = step(work, intent)
    return intent


def _gone(registry: Registry, model: str, *sides: Aliases) -> set[str]:
    versions = {version for side in sides for version in side.versions.values()}
    return {version for version in versions if not registry.has(model, version)}


def _last_words(intent: Intent, actor: str, found: Aliases, *, undone: bool) -> Record:
    move = intent.record
    what = f"the {move.action} of version {move.version} that {move.actor} began"
    gone = f"undone: version {move.version} is not in the registry any more; it was {what}"
    return Record(
        action="reconcile",
        model=move.model,
        actor=actor,
        version=move.version,
        reason=gone if undone else f"finished {what}",
        evidence={
            "intent": intent.id,
            "action": move.action,
            "outcome": "undone" if undone else "finished",
            "found": dict(found.versions),
        },
    )
