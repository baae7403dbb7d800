"""The exceptions of mlops_assets, all of them.

    MlopsAssetsError
      + DeclarationError     a spec, view or source is declared wrongly; nothing has started
        - UnknownNameError   a name that does not exist; names the nearest that do
      + DataError            the data are not what was declared
        - SourceError        a source is missing, empty, or lacks a column
        - ContractError      a table breaks its contract
        - WindowError        a window has no rows or only one class
      + TrainingError        an estimator cannot be fitted on the rows
      + RegistryError        the model registry lacks something or holds it damaged
        - ArtifactError      a model file is not the one that was registered
      + GateError            a gate cannot be computed or broke its protocol; never a pass
      + ReleaseRefusedError  the evidence does not allow this release
        - ApprovalError      a person has to approve it, or may not approve it
      + ReleaseConflictError the aliases are not those that the decision was made against
      + LedgerError          the ledger cannot be read or written, or does not take an entry
        - OvertakenError     somebody else has moved what the entry is about
      + RolloutError         a rollout does not allow this move

Every message tells what was found, what was expected and what to do next. Only exceptions belong
here; the checks that raise them live where the knowledge is.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class MlopsAssetsError(Exception):
    """Base of every error that this package raises on purpose.

    Args:
        found: what is the case.
        expected: what should have been the case.
        do: what the reader can do next.
    """

    def __init__(self, found: str, *, expected: str, do: str) -> None:
        self.found = found
        self.expected = expected
        self.do = do
        super().__init__(f"{found}\n  expected: {expected}\n  to do: {do}")


class DeclarationError(MlopsAssetsError):
    """A spec, view or source is declared wrongly."""


class UnknownNameError(DeclarationError):
    """A name that does not exist."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> "UnknownNameError":
        """Build the error for `name`, with the nearest of the `known` names."""
        names = sorted(known)
        near = get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else "choose one of these"
        return cls(f"unknown {kind} {name!r}", expected=f"one of: {', '.join(names)}", do=hint)


class DataError(MlopsAssetsError):
    """The data are not what was declared."""


class SourceError(DataError):
    """A source is missing, empty, or lacks a column."""


class ContractError(DataError):
    """A table breaks its contract."""


class WindowError(DataError):
    """A window has no rows or only one class."""


class TrainingError(MlopsAssetsError):
    """An estimator cannot be fitted on the rows."""


class RegistryError(MlopsAssetsError):
    """The model registry lacks something or holds it damaged."""


class ArtifactError(RegistryError):
    """A model file is not the one that was registered."""


class GateError(MlopsAssetsError):
    """A gate cannot be computed or broke its protocol; never a pass."""


class ReleaseRefusedError(MlopsAssetsError):
    """The evidence does not allow this release."""


class ApprovalError(ReleaseRefusedError):
    """A person has to approve the release, or may not approve it."""


class ReleaseConflictError(MlopsAssetsError):
    """The aliases are not those that the decision was made against."""


class LedgerError(MlopsAssetsError):
    """The ledger cannot be read or written, or does not take an entry."""


class OvertakenError(LedgerError):
    """Somebody else has moved what the entry is about; trying again is another decision."""


class RolloutError(MlopsAssetsError):
    """A rollout does not allow this move."""
