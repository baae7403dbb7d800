"""The verbs of a release: who may move which alias, what is written, and that aliases follow."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.core.release_plan import Aliases
from mlops_assets.errors import (
    ApprovalError,
    LedgerError,
    RegistryError,
    ReleaseConflictError,
    ReleaseRefusedError,
)
from mlops_assets.stores.ledger import Ledger
from mlops_assets.stores.releases import MOVE_STEPS, STATEMENT_STEPS, Releases
from mlops_assets_tests.stores import release_world
from mlops_assets_tests.stores.ledger_world import MODEL
from mlops_assets_tests.stores.release_world import (
    BOB,
    UNSURE,
    WHO,
    FileRegistry,
    MemoryRegistry,
    actions,
    agreed,
    evidence,
    on_both,
    release,
)

registry, ledger = release_world.registry, release_world.ledger
releases, three = release_world.releases, release_world.three


def test_the_first_release_makes_a_champion(
    releases: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    assert release(releases, "1") == {"champion": "1"}
    assert agreed(ledger, registry) == Aliases("1")


def test_a_release_archives_the_champion_before(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    assert agreed(ledger, registry) == Aliases("3", None, "2")


@on_both
def test_an_entry_says_who_released_what_in_whose_place_why_and_on_which_evidence(
    three: Releases, ledger: Ledger
) -> None:
    origin = {"snapshot": "s", "git_commit": "c", "feature_service_digest": "f"}
    kept = {**evidence(), "more": [1.5]}
    entry = three.release(MODEL, "4", expected_champion="3", **WHO, **origin, evidence=kept)
    assert entry == ledger.entries(MODEL)[-1]
    assert (entry.actor, entry.action, entry.reason) == ("ann", "release", "it is better")
    assert (entry.model, entry.version, entry.from_version) == (MODEL, "4", "3")
    assert entry.before == {"champion": "3", "archived": "2"}
    assert entry.after == {"champion": "4", "archived": "3"}
    assert entry.evidence == kept
    assert {name: getattr(entry, name) for name in origin} == origin


@on_both
def test_versions_carry_their_stage_and_where_the_ledger_says_so(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    last = ledger.entries(MODEL)[-1]
    ours = {"mlops.ledger_seq": "3", "mlops.ledger_hash": last.hash}
    assert registry.tags("3") == ours | {
        "mlops.stage": "champion",
        "mlops.released_by": "ann",
        "mlops.released_at": last.time.isoformat(timespec="seconds"),
        "mlops.evidence": "d1",
    }
    assert registry.tags("2")["mlops.ledger_seq"] == "3"
    assert [registry.tags(v)["mlops.stage"] for v in "12"] == ["candidate", "archived"]
    assert registry.tags("4") == {}


@on_both
def test_a_challenger_is_announced_and_then_released(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    three.challenge(MODEL, "4", **WHO, evidence=evidence())
    assert agreed(ledger, registry) == Aliases("3", "4", "2")
    assert registry.tags("4")["mlops.stage"] == "challenger"
    release(three, "4", "3")
    assert agreed(ledger, registry) == Aliases("4", None, "3")


@on_both
def test_a_release_against_another_champion_names_who_was_quicker(
    three: Releases, ledger: Ledger
) -> None:
    with pytest.raises(ReleaseConflictError) as conflict:
        release(three, "4", "2", actor="eve")
    at = ledger.entries(MODEL)[-1].time.isoformat(timespec="seconds")
    assert conflict.value.found == (
        f"the champion of 'returns' is version 3, by the release of ann at {at} (entry 3)"
    )
    assert conflict.value.expected == "version 2, against which the decision was made"


def test_a_first_release_that_expects_a_champion_is_a_conflict(releases: Releases) -> None:
    with pytest.raises(ReleaseConflictError, match="the champion of 'returns' is no version"):
        release(releases, "1", "9")


@on_both
def test_what_is_refused_moves_and_writes_nothing(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    refused: list[tuple[type[Exception], Callable[[], object]]] = [
        (ReleaseRefusedError, lambda: release(three, "4", "3", evidence=evidence("failed"))),
        (ReleaseRefusedError, lambda: release(three, "4", "3", evidence={})),
        (ApprovalError, lambda: release(three, "4", "3", evidence=UNSURE)),
        (RegistryError, lambda: release(three, "9", "3")),
        (ReleaseRefusedError, lambda: release(three, "3", "3")),
        (LedgerError, lambda: release(three, "4", "3", reason="")),
        (LedgerError, lambda: release(three, "4", "3", evidence={**evidence(), "x": {1, 2}})),
        (ReleaseRefusedError, lambda: three.rollback(MODEL, to="4", **WHO)),
        (RegistryError, lambda: three.challenge(MODEL, "9", **WHO, evidence=evidence())),
        (ApprovalError, lambda: three.challenge(MODEL, "4", **WHO, evidence=UNSURE)),
        (ReleaseRefusedError, lambda: three.retire(MODEL, "3", **WHO)),
        (RegistryError, lambda: three.retire(MODEL, "9", **WHO)),
        (ReleaseRefusedError, lambda: three.archive(MODEL, "1", **WHO)),
        (ReleaseRefusedError, lambda: three.adopt(MODEL, **WHO)),
        (ReleaseRefusedError, lambda: three.revert(MODEL, **WHO)),
        (RegistryError, lambda: three.request(MODEL, "9", **WHO, evidence=UNSURE)),
        (ReleaseRefusedError, lambda: three.request(MODEL, "4", **WHO)),
        (ApprovalError, lambda: three.approve(MODEL, "4", **WHO, evidence=evidence("failed"))),
    ]
    for error, attempt in refused:
        with pytest.raises(error):
            attempt()
        assert agreed(ledger, registry) == Aliases("3", None, "2")
        assert actions(ledger) == ["release"] * 3


def test_a_rollback_brings_the_champion_before_back(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    entry = three.rollback(MODEL, **WHO)
    assert (entry.version, entry.from_version) == ("2", "3")
    assert agreed(ledger, registry) == Aliases("2")
    assert [registry.tags(v)["mlops.stage"] for v in "23"] == ["champion", "candidate"]


@on_both
def test_a_second_rollback_wants_a_version(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    three.rollback(MODEL, **WHO)
    with pytest.raises(ReleaseRefusedError, match="nothing further back"):
        three.rollback(MODEL, **WHO)
    three.rollback(MODEL, to="1", **WHO)
    assert agreed(ledger, registry) == Aliases("1")


def test_a_rollback_never_goes_to_a_version_that_was_only_a_candidate(three: Releases) -> None:
    three.challenge(MODEL, "4", **WHO, evidence=evidence())
    with pytest.raises(ReleaseRefusedError, match="version 4 of 'returns' never was champion"):
        three.rollback(MODEL, to="4", **WHO)


@on_both
def test_a_retired_version_comes_back_by_no_way(three: Releases, registry: FileRegistry) -> None:
    three.retire(MODEL, "2", **WHO)
    assert registry.aliases(MODEL) == {"champion": "3"}
    assert registry.tags("2")["mlops.stage"] == "retired"
    for attempt in (
        lambda: three.rollback(MODEL, to="2", **WHO),
        lambda: release(three, "2", "3"),
        lambda: three.challenge(MODEL, "2", **WHO, evidence=evidence()),
    ):
        with pytest.raises(ReleaseRefusedError, match="version 2 of 'returns' is retired"):
            attempt()


def test_an_archived_champion_serves_nobody_until_a_rollback(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    three.archive(MODEL, "3", **WHO)
    assert agreed(ledger, registry) == Aliases(None, None, "3")
    three.rollback(MODEL, **WHO)
    assert agreed(ledger, registry) == Aliases("3")


@on_both
def test_models_do_not_touch_each_other(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    registry.add("1", model="other")
    cause = {**WHO, "evidence": evidence()}
    three.release("other", "1", expected_champion=None, **cause)
    assert agreed(ledger, registry) == Aliases("3", None, "2")
    assert [entry.seq for entry in ledger.entries("other")] == [4]


def test_an_observer_is_told_every_step_in_order(ledger: Ledger, registry: FileRegistry) -> None:
    told: list[str] = []
    releases = Releases(ledger, registry, observer=told.append)
    release(releases, "1")
    assert tuple(told) == MOVE_STEPS
    told.clear()
    releases.approve(MODEL, "2", **BOB, evidence=UNSURE)
    assert tuple(told) == STATEMENT_STEPS


def _race(url: str, file: Path, version: str, barrier: Any, said: Any) -> None:
    ledger = Ledger(url)
    releases = Releases(ledger, FileRegistry(file))
    barrier.wait()
    try:
        release(releases, version, "3", actor=f"racer {version}")
        said.put((version, "won"))
    except ReleaseConflictError as conflict:
        said.put((version, conflict.found))
    except Exception as error:
        said.put((version, f"{error!r}"))
    ledger.close()


@on_both
def test_of_eight_processes_that_release_at_once_one_wins_and_is_named_to_the_others(
    three: Releases, ledger: Ledger, registry: FileRegistry
) -> None:
    versions = [str(version) for version in range(10, 18)]
    registry.add(*versions)
    url = ledger.database.engine.url.render_as_string(hide_password=False)
    fork = multiprocessing.get_context("fork")
    barrier, said = fork.Barrier(8), fork.SimpleQueue()
    racers = [
        fork.Process(target=_race, args=(url, registry.file, version, barrier, said))
        for version in versions
    ]
    for racer in racers:
        racer.start()
    answers = dict(said.get() for _ in racers)
    for racer in racers:
        racer.join()
    (winner,) = (version for version, answer in answers.items() if answer == "won")
    assert agreed(ledger, registry) == Aliases(winner, None, "3")
    won = ledger.entries(MODEL)[-1]
    at = won.time.isoformat(timespec="seconds")
    told = f"is version {winner}, by the release of racer {winner} at {at} (entry {won.seq})"
    assert sorted(answers) == versions
    assert all(told in answer for answer in answers.values() if answer != "won")


@on_both
def test_a_thousand_releases_in_a_row_keep_the_chain(ledger: Ledger, tmp_path: Path) -> None:
    registry = MemoryRegistry(tmp_path / "registry.json")
    registry.add("1", "2", "3", "4")
    releases = Releases(ledger, registry)
    before = None
    for i in range(1_000):
        version = str(1 + i % 4)
        release(releases, version, before)
        before = version
    assert agreed(ledger, registry).champion == before
    last = ledger.entries(MODEL, last=20)
    assert [entry.seq for entry in last] == list(range(981, 1_001))
