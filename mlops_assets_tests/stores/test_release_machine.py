"""Whatever happens in whatever order, ledger and aliases agree once it is reconciled.

Candidates, gates, approvals, rejections, releases, rollbacks, crashes and aliases moved by hand, as
hypothesis orders them, against a model of what has to be the case.
"""

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mlops_assets.errors import MlopsAssetsError, ReleaseConflictError
from mlops_assets.stores.ledger import Ledger
from mlops_assets.stores.releases import MOVE_STEPS, Releases
from mlops_assets_tests.stores.ledger_world import MODEL, unsynced
from mlops_assets_tests.stores.release_world import MemoryRegistry, agreed, evidence

PEOPLE = st.sampled_from(["ann", "bob", "eve"])
CRASHES = st.sampled_from([*[None] * 2 * len(MOVE_STEPS), *MOVE_STEPS])
OUTCOMES = st.sampled_from(["passed", "passed", "inconclusive", "failed"])
PICK = st.sampled_from(range(8))
# What ends a story for good comes seldom, so that stories become long.
SELDOM = st.sampled_from([True, *[False] * 5])
MOSTLY = SELDOM.map(lambda seldom: not seldom)


class Crash(BaseException):
    """The death of the process, as far as one process can play it."""


class Life(RuleBasedStateMachine):
    """One model's life."""

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.ledger = unsynced(Ledger(f"sqlite:///{self.folder}/ledger.db"))
        self.registry = MemoryRegistry(self.folder / "registry.json")
        self.crash_at: str | None = None
        self.releases = Releases(self.ledger, self.registry, observer=self.observe)
        self.versions: list[str] = []
        self.judged: dict[str, dict[str, Any]] = {}
        self.approved: dict[str, set[str]] = {}
        self.requested: dict[str, set[str]] = {}
        self.rejected: set[str] = set()
        self.by_hand = False
        self.retired: set[str] = set()
        self.evidences = 0
        for outcome in ("passed", "passed", "inconclusive"):
            self.candidate(outcome)

    def teardown(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.folder)

    def observe(self, step: str) -> None:
        if step == self.crash_at:
            self.crash_at = None
            raise Crash

    def attempt(self, verb: Callable[[], object]) -> bool:
        """Whether something was done; what is refused has to change nothing."""
        before = (self.ledger.state(MODEL), self.registry.aliases(MODEL), self.ledger.head())
        try:
            verb()
        except MlopsAssetsError as refused:
            after = (self.ledger.state(MODEL), self.registry.aliases(MODEL), self.ledger.head())
            assert before == after or before[0].intent, "what a crash has left is finished first"
            if isinstance(refused, ReleaseConflictError) and "by hand" in refused.found:
                assert self.by_hand
            return False
        except Crash:
            return False
        return True

    def pick(self, number: int) -> str:
        return self.versions[number % len(self.versions)]

    def mood(self, who: str, version: str) -> dict[str, Any]:
        return {"actor": who, "reason": "because", "evidence": self.judged[version]}

    @rule(outcome=OUTCOMES)
    def candidate(self, outcome: str) -> None:
        version = str(len(self.versions) + 1)
        self.registry.add(version)
        self.versions.append(version)
        self.judge(version, outcome)

    def judge(self, version: str, outcome: str) -> None:
        self.evidences += 1
        self.judged[version] = evidence(outcome, f"evidence {self.evidences}")
        self.approved[version], self.requested[version] = set(), set()
        self.rejected.discard(version)

    @rule(number=PICK, outcome=OUTCOMES)
    def gates(self, number: int, outcome: str) -> None:
        self.judge(self.pick(number), outcome)

    @rule(number=PICK, who=PEOPLE)
    def request(self, number: int, who: str) -> None:
        version = self.pick(number)
        if self.attempt(lambda: self.releases.request(MODEL, version, **self.mood(who, version))):
            self.requested[version].add(who)

    @rule(number=PICK, who=PEOPLE)
    def approve(self, number: int, who: str) -> None:
        version = self.pick(number)
        may = "failed" not in str(self.judged[version]) and who not in self.requested[version]
        done = self.attempt(
            lambda: self.releases.approve(MODEL, version, **self.mood(who, version))
        )
        assert done == may
        if done:
            self.approved[version].add(who)

    @rule(number=PICK, who=PEOPLE, seldom=SELDOM)
    def reject(self, number: int, who: str, seldom: bool) -> None:
        if not seldom:
            return
        version = self.pick(number)
        done = self.attempt(lambda: self.releases.reject(MODEL, version, **self.mood(who, version)))
        # What a crash has left is finished by now, whatever was answered.
        assert done == (version != self.ledger.state(MODEL).aliases.champion)
        if done:
            self.rejected.add(version)

    @rule(number=PICK, who=PEOPLE, fresh=st.booleans(), current=MOSTLY, step=CRASHES)
    def release(self, number: int, who: str, fresh: bool, current: bool, step: str | None) -> None:
        if fresh:
            self.candidate("passed")
        version, state = self.versions[-1] if fresh else self.pick(number), self.ledger.state(MODEL)
        left = state.intent is not None
        # Mostly the right champion, so that the others do not drown it.
        expected = state.aliases.champion if current else "0"
        self.crash_at = step
        cause = self.mood(who, version)
        done = self.attempt(
            lambda: self.releases.release(MODEL, version, expected_champion=expected, **cause)
        )
        self.crash_at = None
        if self.ledger.state(MODEL).aliases.champion == version != state.aliases.champion:
            assert left or (current and self.allowed(version, who))
        elif step is None and not left and not self.by_hand and current:
            wanted = self.allowed(version, who) and version != state.aliases.champion
            assert done == bool(wanted)

    def allowed(self, version: str, who: str) -> bool:
        outcome = self.judged[version]["verdicts"]["ece"]
        asked = self.requested[version] or {who}
        sure = outcome == "passed" or (outcome != "failed" and self.approved[version] - asked)
        return bool(sure) and version not in self.rejected | self.retired

    @rule(step=CRASHES, who=PEOPLE)
    def roll_back(self, step: str | None, who: str) -> None:
        state = self.ledger.state(MODEL)
        self.crash_at = step
        done = self.attempt(lambda: self.releases.rollback(MODEL, actor=who, reason="it is worse"))
        self.crash_at = None
        if state.intent is None and done:
            assert agreed(self.ledger, self.registry).champion == state.aliases.archived
            assert self.ledger.state(MODEL).aliases.archived is None

    @rule(number=PICK, who=PEOPLE, step=CRASHES, seldom=SELDOM)
    def retire(self, number: int, who: str, step: str | None, seldom: bool) -> None:
        if not seldom:
            return
        version = self.pick(number)
        self.crash_at = step
        self.attempt(lambda: self.releases.retire(MODEL, version, actor=who, reason="enough"))
        self.crash_at = None
        intent = self.ledger.state(MODEL).intent
        under_way = intent and intent.record.action == "retire"
        said = self.ledger.entries(MODEL, version=version, actions=("retire",))
        if said or under_way:
            self.retired.add(version)

    @rule(number=PICK, alias=st.sampled_from(["champion", "challenger", "archived"]), seldom=SELDOM)
    def move_by_hand(self, number: int, alias: str, seldom: bool) -> None:
        if not seldom:
            return
        self.registry.set_alias(MODEL, alias, self.pick(number))
        moved = self.releases.drift(MODEL) or self.ledger.state(MODEL).intent
        self.by_hand = self.by_hand or bool(moved)

    @rule(who=PEOPLE, adopts=st.booleans(), step=CRASHES)
    def clean_up(self, who: str, adopts: bool, step: str | None) -> None:
        verb = self.releases.adopt if adopts else self.releases.revert
        self.crash_at = step
        self.attempt(lambda: verb(MODEL, actor=who, reason="it was moved by hand"))
        self.crash_at = None
        if not self.releases.drift(MODEL) and self.ledger.state(MODEL).intent is None:
            self.by_hand = False

    @rule(step=CRASHES)
    def reconcile(self, step: str | None) -> None:
        self.crash_at = step
        self.attempt(lambda: self.releases.reconcile(actor="cron"))
        self.crash_at = None
        self.attempt(lambda: self.releases.reconcile(actor="cron"))
        assert self.ledger.state(MODEL).intent is None
        if not self.by_hand:
            agreed(self.ledger, self.registry)

    @invariant()
    def the_chain_holds(self) -> None:
        assert self.ledger.verify() is None

    @invariant()
    def a_champion_is_nothing_else(self) -> None:
        aliases = self.ledger.state(MODEL).aliases
        assert aliases.champion is None or aliases.champion not in (
            aliases.challenger,
            aliases.archived,
        )

    @invariant()
    def aliases_that_nobody_moved_by_hand_are_where_the_ledger_or_a_move_has_them(self) -> None:
        if not self.by_hand:
            assert self.releases.drift(MODEL) == ()

    @invariant()
    def nothing_that_failed_or_was_rejected_is_champion_by_a_release(self) -> None:
        for entry in self.ledger.entries(MODEL, actions=("release",), last=1):
            assert entry.evidence["verdicts"]["ece"] != "failed"
            assert entry.approver or entry.evidence["verdicts"]["ece"] == "passed"


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
