"""Which alias of a model ends where: the plan of every move, made before anything is touched.

Plans only. Whether the evidence allows a move is decided in `approval`; moving aliases and writing
it down is the business of the stores.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Literal

from mlops_assets.errors import ReleaseRefusedError

Alias = Literal["archived", "champion", "challenger"]
Stage = Literal["champion", "challenger", "archived", "candidate", "retired"]

ORDER: tuple[Alias, ...] = ("archived", "champion", "challenger")
"""The order in which aliases move: the way back is there before the champion changes."""


@dataclass(frozen=True, slots=True)
class Aliases:
    """The versions that a model's aliases point to.

    Args:
        champion: serves production.
        challenger: passed the staging gates.
        archived: the champion before, to which a rollback goes.
    """

    champion: str | None = None
    challenger: str | None = None
    archived: str | None = None

    @classmethod
    def of(cls, versions: Mapping[str, str]) -> "Aliases":
        """The aliases in a mapping, which may hold others as well.

        >>> Aliases.of({"champion": "2", "archived": "1", "mine": "1"})
        Aliases(champion='2', challenger=None, archived='1')
        """
        return cls(**{alias: versions[alias] for alias in ORDER if alias in versions})

    @property
    def versions(self) -> Mapping[str, str]:
        """The aliases that point to a version."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return MappingProxyType({alias: version for alias, version in found.items() if version})

    def version(self, alias: Alias) -> str | None:
        """The version of an alias."""
        return self.versions.get(alias)

    def without(self, gone: Collection[str]) -> "Aliases":
        """The aliases that are left when versions are deleted."""
        return Aliases.of({a: v for a, v in self.versions.items() if v not in gone})

    def stage(self, version: str) -> Stage:
        """The stage of a version; the first of its aliases decides.

        >>> Aliases(champion="2", archived="1").stage("3")
        'candidate'
        """
        if version == self.champion:
            return "champion"
        if version == self.challenger:
            return "challenger"
        return "archived" if version == self.archived else "candidate"


def challenged(aliases: Aliases, version: str) -> Aliases:
    """A version passed the staging gates; the challenger before is a candidate again.

    Raises:
        ReleaseRefusedError: when it is the champion, or the challenger already.
    """
    if version in (aliases.champion, aliases.challenger):
        raise _already(aliases, version)
    return replace(aliases, challenger=version)


def released(aliases: Aliases, version: str) -> Aliases:
    """A version becomes champion, and the champion before is archived.

    Raises:
        ReleaseRefusedError: when it is the champion already.
    """
    if version == aliases.champion:
        raise _already(aliases, version)
    return _led_by(version, aliases, archived=aliases.champion or aliases.archived)


def rolled_back(aliases: Aliases, to: str | None = None) -> Aliases:
    """The archived version, or the one named, is champion again.

    The version that it was rolled back from is not archived: a second rollback must not bring it
    back.

    Raises:
        ReleaseRefusedError: when there is nothing further back, or the named one is champion.
    """
    target = to or aliases.archived
    if target is None:
        raise ReleaseRefusedError(
            f"there is nothing further back than the champion, version {aliases.champion}"
            if aliases.champion
            else "there is no champion, and nothing to go back to",
            expected="an archived version",
            do="name a version that was champion before; the ledger lists them",
        )
    if target == aliases.champion:
        raise _already(aliases, target)
    return _led_by(target, aliases, archived=None)


def archived(aliases: Aliases, version: str) -> Aliases:
    """The champion leaves without a successor, or the challenger leaves the running.

    Raises:
        ReleaseRefusedError: when the version is neither.
    """
    if version == aliases.champion:
        return replace(aliases, champion=None, archived=version)
    if version == aliases.challenger:
        return replace(aliases, challenger=None)
    raise ReleaseRefusedError(
        f"version {version} is {aliases.stage(version)}",
        expected="the champion or the challenger",
        do="retire the version when it must never be used again",
    )


def retired(aliases: Aliases, version: str) -> Aliases:
    """A version is never to be used again, so no alias points to it.

    Raises:
        ReleaseRefusedError: when it is the champion.
    """
    if version == aliases.champion:
        raise ReleaseRefusedError(
            f"version {version} is the champion",
            expected="a version that serves nobody",
            do="release another version, roll back, or archive it first",
        )
    return aliases.without([version])


def adopted(ledger: Aliases, found: Aliases) -> Aliases:
    """What the ledger takes over when aliases were moved by hand.

    A champion that was replaced by hand, with the way back left as it was, is the way back now.
    """
    back = found.archived
    if found.champion and found.champion != ledger.champion and back == ledger.archived:
        rolled = found.champion == ledger.archived
        back = None if rolled else ledger.champion or back
    challenger = None if found.challenger == found.champion else found.challenger
    return Aliases(found.champion, challenger, None if back == found.champion else back)


def stages(before: Aliases, after: Aliases) -> Mapping[str, Stage]:
    """The new stages of the versions whose stage a move changes.

    >>> dict(stages(Aliases(champion="1"), Aliases(champion="2", archived="1")))
    {'1': 'archived', '2': 'champion'}
    """
    versions = sorted({*before.versions.values(), *after.versions.values()})
    changed = {v: after.stage(v) for v in versions if before.stage(v) != after.stage(v)}
    return MappingProxyType(changed)


def _led_by(version: str, aliases: Aliases, archived: str | None) -> Aliases:
    """A new champion, which is nothing else beside."""
    challenger = None if aliases.challenger == version else aliases.challenger
    return Aliases(version, challenger, None if archived == version else archived)


def _already(aliases: Aliases, version: str) -> ReleaseRefusedError:
    return ReleaseRefusedError(
        f"version {version} is {aliases.stage(version)} already",
        expected="another version",
        do="nothing is to be done, or name another version",
    )
