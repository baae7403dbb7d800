"""Reading bodies and writing answers: JSON that is checked as far as all interfaces need it."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mlops_assets.serving.refusals import Refusal, shown, unknown

JSON = "application/json"
NOTES = "mlops_assets.notes"
"""Key of the scope under which handlers leave what the log shall tell of a request."""


def content_type(request: Request) -> str:
    """The media type of the body, without parameters; empty where none is named."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def body_of(request: Request, *allowed: str) -> bytes:
    """The body, of one of the allowed media types.

    Raises:
        Refusal: another media type, an encoded body, or none.
    """
    found = content_type(request)
    if found not in allowed:
        raise Refusal(
            f"the content type {shown(found)}" if found else "no content type",
            expected=" or ".join(kind for kind in allowed if kind),
            do=f"send the header Content-Type: {allowed[0]}",
            status=415,
            field="Content-Type",
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refusal(
            "an encoded body",
            expected="a body that is sent as it is",
            do="do not compress the request",
            status=415,
            field="Content-Encoding",
        )
    try:
        body = await request.body()
    except ClientDisconnect:
        raise Refusal("half a body", expected="the whole of it") from None
    if not body:
        raise Refusal("an empty body", expected="a JSON object")
    return body


def parsed(body: bytes | memoryview) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        Refusal: no JSON, nested too deeply, or no object.
    """
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as wrong:
        raise Refusal(
            f"no JSON: {wrong.msg} in line {wrong.lineno}, column {wrong.colno}",
            expected="JSON in UTF-8 (NaN and Infinity are none: send null for what is not known)",
        ) from None
    if type(found) is not dict:
        raise Refusal(shown(found), expected="an object")
    return found


def rows_of(value: Any, field: str, most: int) -> list[Any]:
    """A list of rows, neither empty nor too long.

    Raises:
        Refusal: when it is none.
    """
    if type(value) is not list or not value:
        found = "an empty list" if value == [] else shown(value)
        raise Refusal(found, expected="a list of one row or more", field=field)
    if len(value) > most:
        raise too_many(len(value), field, most)
    return value


def too_many(rows: int, field: str, most: int) -> Refusal:
    """The refusal of more rows than one request may have."""
    return Refusal(
        f"{rows:,} rows",
        expected=f"at most {most:,}",
        do="send them in several requests",
        status=413,
        field=field,
    )


def only(document: Mapping[str, Any], known: Sequence[str]) -> None:
    """Refuse fields that nobody reads: they are misspelled, or mean something that is not done.

    Raises:
        Refusal: naming the first of them.
    """
    for name in document:
        if name not in known:
            raise unknown("field", name, known, field=str(name)[:60])


def answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(content), status, headers, JSON)


def refused(refusal: Refusal) -> Response:
    """The answer to a request that is not fulfilled."""
    headers = {}
    if refusal.retry_after is not None:
        headers["Retry-After"] = str(refusal.retry_after)
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    # A text of a client may hold half a surrogate pair, which no UTF-8 has: it is replaced.
    return answer(_clean(refusal.body), refusal.status, headers)


def _clean(body: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.encode("utf-8", "replace").decode() for k, v in body.items()}
