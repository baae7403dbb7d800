"""What the tests of releases build with: a registry, evidence, crashes and killed processes."""

import json
import os
import signal
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.core.release_plan import Aliases
from mlops_assets.stores.ledger import Ledger
from mlops_assets.stores.releases import Releases
from mlops_assets_tests.stores.ledger_world import DATABASES, MODEL, opened

WHO = {"actor": "ann", "reason": "it is better"}
BOB = {"actor": "bob", "reason": "worth the risk"}

on_both = pytest.mark.parametrize("ledger", DATABASES, indirect=True)


class FileRegistry:
    """A registry in a JSON file, written whole or not at all.

    Args:
        file: the file; another process may have made it.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        if not file.exists():
            self._write({"versions": {}, "aliases": {}})

    def add(self, *versions: str, model: str = MODEL) -> None:
        content = self._read()
        content["versions"].setdefault(model, {}).update({version: {} for version in versions})
        self._write(content)

    def delete(self, version: str, model: str = MODEL) -> None:
        """Remove a version and the aliases that point to it, as MLflow does."""
        content = self._read()
        del content["versions"][model][version]
        left = {a: v for a, v in content["aliases"].get(model, {}).items() if v != version}
        content["aliases"][model] = left
        self._write(content)

    def tags(self, version: str, model: str = MODEL) -> dict[str, str]:
        return self._read()["versions"][model][version]

    def aliases(self, model: str) -> Mapping[str, str]:
        return self._read()["aliases"].get(model, {})

    def has(self, model: str, version: str) -> bool:
        return version in self._read()["versions"].get(model, {})

    def set_alias(self, model: str, alias: str, version: str | None) -> None:
        content = self._read()
        aliases = content["aliases"].setdefault(model, {})
        if version is None:
            aliases.pop(alias, None)
        else:
            assert version in content["versions"][model], f"there is no version {version}"
            aliases[alias] = version
        self._write(content)

    def tag(self, model: str, version: str, tags: Mapping[str, str]) -> None:
        content = self._read()
        content["versions"][model][version].update(tags)
        self._write(content)

    def _read(self) -> dict[str, Any]:
        return json.loads(self.file.read_text())

    def _write(self, content: dict[str, Any]) -> None:
        fresh = self.file.with_name(f"{self.file.name}.{uuid.uuid4().hex}")
        fresh.write_text(json.dumps(content))
        fresh.replace(self.file)


class MemoryRegistry(FileRegistry):
    """A registry for many moves of one process: its file stays in memory."""

    text = ""

    def _read(self) -> dict[str, Any]:
        return json.loads(self.text)

    def _write(self, content: dict[str, Any]) -> None:
        self.text = json.dumps(content)


def evidence(outcome: str = "passed", digest: str = "d1") -> dict[str, Any]:
    """What a gate said, on which evidence."""
    return {"digest": digest, "verdicts": {"ece": outcome}, "metrics": {"auc": 0.75}}


UNSURE = evidence("inconclusive")


def release(
    releases: Releases, version: str, expected: str | None = None, **more: Any
) -> dict[str, str]:
    """Release a version that passed; returns the aliases afterwards."""
    cause = {**WHO, "evidence": evidence(), **more}
    return dict(releases.release(MODEL, version, expected_champion=expected, **cause).after)


def agreed(ledger: Ledger, registry: FileRegistry) -> Aliases:
    """The aliases, after it is clear that ledger and registry agree on them and nothing is left."""
    state = ledger.state(MODEL)
    assert state.intent is None
    assert state.aliases == Aliases.of(registry.aliases(MODEL))
    assert ledger.verify() is None
    return state.aliases


def actions(ledger: Ledger) -> list[str]:
    return [entry.action for entry in ledger.entries(MODEL)]


@pytest.fixture
def registry(tmp_path: Path) -> FileRegistry:
    registry = FileRegistry(tmp_path / "registry.json")
    registry.add("1", "2", "3", "4")
    return registry


@pytest.fixture
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """In SQLite, and in Postgres too where a test says `on_both`."""
    with opened(getattr(request, "param", "sqlite"), tmp_path) as ledger:
        yield ledger


@pytest.fixture
def releases(ledger: Ledger, registry: FileRegistry) -> Releases:
    return Releases(ledger, registry)


@pytest.fixture
def three(releases: Releases) -> Releases:
    """Version 3 is champion, 2 is archived, and 1 was champion before."""
    for version, before in (("1", None), ("2", "1"), ("3", "2")):
        release(releases, version, before)
    return releases


class Crash(BaseException):
    pass


def crashing(step: str) -> Callable[[str], None]:
    def observe(name: str) -> None:
        if name == step:
            raise Crash

    return observe


def crash(ledger: Ledger, registry: FileRegistry, step: str, version: str = "4") -> None:
    with pytest.raises(Crash):
        release(Releases(ledger, registry, observer=crashing(step)), version, "3")


def killed(work: Callable[[], object]) -> bool:
    """Do something in a process of its own; whether it was killed before it ended."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def killer(step: str, at: int = 1) -> Callable[[str], None]:
    """An observer that kills its process before a step, when it comes for the `at`-th time."""
    left = [at]

    def observe(name: str) -> None:
        if name == step:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

    return observe
