"""Refusals: answers to requests that are not fulfilled, with the field and what is wrong with it.

One shape of body for all interfaces: `error` is the text that clients of the Open Inference
Protocol read, `error_code` and `message` are what MLflow's clients read. Which request is refused
is decided where it is read.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from mlops_assets.errors import MlopsAssetsError

CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    405: "METHOD_NOT_ALLOWED",
    408: "REQUEST_TIMEOUT",
    409: "CONFLICT",
    413: "REQUEST_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    422: "FEATURE_MISSING",
    429: "RESOURCE_EXHAUSTED",
    503: "TEMPORARILY_UNAVAILABLE",
}
_MOST_SHOWN = 60


class Refusal(MlopsAssetsError):  # noqa: N818
    """A request that is not fulfilled.

    Args:
        found: what the request has.
        status: the HTTP status.
        expected: what it should have had.
        do: what the client can do next.
        field: where in the request, as `rows[0].distance`; empty for all of it.
        retry_after: seconds after which another try may succeed.
    """

    def __init__(
        self,
        found: str,
        *,
        expected: str,
        do: str = "correct the request",
        status: int = 400,
        field: str = "",
        retry_after: int | None = None,
    ) -> None:
        self.status, self.field, self.retry_after = status, field, retry_after
        super().__init__(found, expected=expected, do=do)

    @property
    def body(self) -> dict[str, Any]:
        """What the client is told."""
        where = f"{self.field}: " if self.field else ""
        message = f"{where}{self.found}; expected {self.expected}"
        return {
            "error": message,
            "error_code": CODES.get(self.status, "ERROR"),
            "message": message,
            "field": self.field,
            "found": self.found,
            "expected": self.expected,
            "do": self.do,
        }


def shown(value: Any) -> str:
    """A value of a client, short enough for a message.

    >>> shown("a" * 1000)[-5:], shown({"a": 1}), shown([1, 2])
    ('aaaa…', 'an object', 'a list')
    """
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, (list, tuple)):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    # A text of megabytes is cut before it is quoted.
    text = repr(value[:_MOST_SHOWN]) if isinstance(value, str) else repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[: _MOST_SHOWN - 1]}…"


def unknown(kind: str, name: Any, known: Iterable[str], *, field: str = "") -> Refusal:
    """The refusal of a name in the body of a request."""
    names = list(known)
    near = get_close_matches(str(name)[:_MOST_SHOWN], names, n=3, cutoff=0.5)
    return Refusal(
        f"unknown {kind} {shown(name)}",
        expected=f"one of: {', '.join(names)}",
        do=f"did you mean {' or '.join(near)}?" if near else f"leave the {kind} out",
        field=field,
    )
