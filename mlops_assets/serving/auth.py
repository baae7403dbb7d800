"""Who may do what: tokens with roles, kept as hashes in one file below the home.

Tokens are random and long, so that a fast hash is enough: nobody can guess one from its hash. Which
request needs which role is decided here too; reading the request is the matter of `limits`.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, get_args

from mlops_assets.errors import DeclarationError
from mlops_assets.serving.refusals import Refusal

Role = Literal["predict", "operate", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may."""

FILE = "tokens.json"
_SAFER = frozenset(
    {"rollout", "rollout/pause", "rollout/abort", "rollback", "experiment", "experiment/stop"}
)
_OPEN = frozenset({"/ping", "/health", "/version", "/v2/health/live", "/v2/health/ready"})


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept: never the token itself."""

    name: str
    role: Role
    sha256: str
    created: str


def role_for(path: str) -> Role | None:
    """The role that a path asks for; None where nobody is asked.

    Whoever operates may look and make things safer: pause, abort, roll back. Only an admin gives a
    version more traffic.

    >>> role_for("/v2/health/ready"), role_for("/metrics"), role_for("/models/m/predict")
    (None, 'operate', 'predict')
    >>> role_for("/models/m/rollout/abort"), role_for("/models/m/rollout/advance")
    ('operate', 'admin')
    >>> role_for("/models/rollout/predict")
    'predict'
    """
    if path in _OPEN:
        return None
    # Behind the name of the model, which may be the word of a move.
    what = path[1:].partition("/")[2].partition("/")[2] if path.startswith("/models/") else ""
    if path == "/metrics" or what in _SAFER:
        return "operate"
    return "admin" if what.startswith(("rollout/", "experiment/")) else "predict"


class Tokens:
    """The tokens of a home.

    Args:
        root: the home.
        required: refuse everybody when there are no tokens, as a server must that can be reached
            from outside.
    """

    def __init__(self, root: Path, *, required: bool = False) -> None:
        self._path, self._required = root / FILE, required
        self._mark: tuple[int, int] | None = None
        self._by_hash: dict[str, Token] = {}
        self.refresh()

    def __bool__(self) -> bool:
        return bool(self._by_hash)

    @property
    def asked(self) -> bool:
        """Whether requests need a token: since the first was created, and until the file goes."""
        return self._required or self._mark is not None

    def refresh(self) -> None:
        """Read the file again if it has changed; one that cannot be read lets nobody in."""
        mark = self._stat()
        if mark == self._mark:
            return
        try:
            self._by_hash = {one.sha256: one for one in read(self._path)} if mark else {}
        except DeclarationError:
            self._by_hash, self._required = {}, True
        self._mark = mark

    def admit(self, header: str | None, path: str) -> str:
        """The name of who asks; empty where nobody is asked.

        Raises:
            Refusal: without a token, with an unknown one, or with one of a lower role.
        """
        wanted = role_for(path)
        if wanted is None or not self.asked:
            return ""
        kind, _, secret = (header or "").partition(" ")
        token = self._by_hash.get(hashed(secret.strip())) if kind.lower() == "bearer" else None
        if token is None:
            raise Refusal(
                "no token" if not header else "a token that is not known",
                expected="the header Authorization: Bearer TOKEN",
                do="ask the operator: mlops-assets token create NAME --role predict",
                status=401,
                field="Authorization",
            )
        if ROLES.index(token.role) < ROLES.index(wanted):
            raise Refusal(
                f"a token of the role {token.role}",
                expected=f"the role {wanted}",
                do=f"ask the operator: mlops-assets token create NAME --role {wanted}",
                status=403,
                field="Authorization",
            )
        return token.name

    def _stat(self) -> tuple[int, int] | None:
        with contextlib.suppress(FileNotFoundError):
            found = self._path.stat()
            return found.st_mtime_ns, found.st_ino
        return None


def hashed(secret: str) -> str:
    """The hash by which a token is known."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def read(path: Path) -> list[Token]:
    """The tokens in a file; none if there is no file.

    Raises:
        DeclarationError: when it holds something else.
    """
    if not path.exists():
        return []
    try:
        found = [Token(**one) for one in json.loads(path.read_text())]
        if any(one.role not in ROLES for one in found):
            raise ValueError("an unknown role")
    except (OSError, ValueError, TypeError) as wrong:
        raise DeclarationError(
            f"{path} holds no tokens: {wrong}",
            expected="what `mlops-assets token create` writes",
            do="remove the file and create the tokens again",
        ) from wrong
    return found


def none_left(root: Path) -> str:
    """What it means that there are no tokens."""
    path = root / FILE
    if path.exists():
        return f"no tokens: nobody may ask until one is created, or everybody here without {path}"
    return "no tokens: everybody on this machine may ask; mlops-assets token create NAME"


def create(root: Path, name: str, role: str) -> str:
    """Make a token and keep its hash; the token itself is only returned, and kept nowhere.

    Raises:
        DeclarationError: a name that is taken or no name, or an unknown role.
    """
    if role not in ROLES or not re.fullmatch(r"[A-Za-z0-9_.@-]{1,64}", name):
        raise DeclarationError(
            f"a token for {name!r} with the role {role!r}",
            expected=f"a name of letters, digits and _.@-, and a role of {', '.join(ROLES)}",
            do="correct the name or the role",
        )
    secret = f"mlops_{secrets.token_urlsafe(32)}"
    created = datetime.now(UTC).isoformat(timespec="seconds")
    with _changing(root) as path:
        found = read(path)
        if name in {one.name for one in found}:
            raise DeclarationError(
                f"there is a token for {name!r} already",
                expected="one token per name",
                do=f"choose another name, or first: mlops-assets token revoke {name}",
            )
        _write(path, [*found, Token(name, role, hashed(secret), created)])
    return secret


def revoke(root: Path, name: str) -> None:
    """Forget a token; workers follow within a second. After the last one nobody may ask.

    Raises:
        DeclarationError: when there is none of this name.
    """
    with _changing(root) as path:
        found = read(path)
        if name not in {one.name for one in found}:
            names = ", ".join(one.name for one in found)
            raise DeclarationError(
                f"there is no token for {name!r}",
                expected=f"one of: {names}" if found else "a token: there are none",
                do="correct the name" if found else "nothing is to be revoked",
            )
        _write(path, [one for one in found if one.name != name])


@contextlib.contextmanager
def _changing(root: Path) -> Iterator[Path]:
    """The file of the tokens, which nobody else changes meanwhile."""
    root.mkdir(parents=True, exist_ok=True)
    # A file of its own: the one of the tokens is replaced by every change.
    with (root / f"{FILE}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield root / FILE


def _write(path: Path, tokens: list[Token]) -> None:
    # Readable by nobody else from the first moment on, and never seen half written.
    file, name = tempfile.mkstemp(prefix=f"{FILE}.", dir=path.parent)
    with os.fdopen(file, "w") as stream:
        json.dump([asdict(token) for token in tokens], stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    Path(name).replace(path)
