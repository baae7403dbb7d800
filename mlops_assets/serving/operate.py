"""Operating over HTTP: rollouts are started, moved and looked at, and the champion is rolled back.

The same moves as the commands make. A client that names the entry of the state that it has seen
makes one move of it, however often it asks. Which role may make which is decided in `auth`: whoever
operates may make things safer, and only an admin gives a version more traffic.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response

from mlops_assets.errors import LedgerError, MlopsAssetsError, OvertakenError, RegistryError
from mlops_assets.rollouts import moves
from mlops_assets.serving.bodies import JSON, NOTES, answer, body_of, only, parsed
from mlops_assets.serving.refusals import Refusal, shown
from mlops_assets.serving.worker import Worker
from mlops_assets.spec import ModelSpec

if TYPE_CHECKING:
    from mlops_assets.stores.rollouts import Kept

T = TypeVar("T")
_MOST_REASON = 2_000


async def look(request: Request) -> Response:
    """The newest rollout of a model, and what would become of it now."""
    worker, spec = model_of(request)

    def found() -> dict[str, Any]:
        kept = worker.platform.rollouts.last(spec.name, "rollout")
        if kept is None:
            return {"model": spec.name, "rollout": None}
        call = worker.controller.last.get(spec.name) if kept.traffic.is_open else None
        return moves.state_of(kept, call)

    return answer(await done(found))


async def start(request: Request) -> Response:
    """Begin to roll out a version."""
    worker, spec = model_of(request)
    given = await given_in(request, "version", "steps", "reason")
    version, steps = given.get("version"), given.get("steps", [])
    if type(version) is not str or not version.isdigit():
        raise Refusal(shown(version), expected="the number of a version, as text", field="version")
    if type(steps) is not list or any(type(one) not in (int, float) for one in steps):
        raise Refusal(shown(steps), expected="percents that grow, such as [5, 25]", field="steps")
    kept = await done(
        lambda: moves.start(
            worker.platform,
            spec,
            version,
            steps=tuple(steps),
            actor=actor_of(request, worker),
            reason=given["reason"],
        )
    )
    return answer(moves.state_of(kept), 201)


async def move(request: Request) -> Response:
    """Advance, pause, resume or abort a rollout."""
    worker, spec = model_of(request)
    given = await given_in(request, "reason", "entry")
    verb, seen = request.path_params["verb"], given.get("entry")
    if verb not in ("advance", "pause", "resume", "abort"):
        raise Refusal(
            f"the move {shown(verb)}",
            expected="start, advance, pause, resume or abort",
            do="correct the address",
            status=404,
        )
    if seen is not None and type(seen) is not int:
        raise Refusal(shown(seen), expected="the entry of a state, as a number", field="entry")
    actor = actor_of(request, worker)

    def made() -> "Kept":
        now = worker.platform.rollouts.open(spec.name)
        decided_on = None if now is None or seen is None else replace(now, seq=seen)
        return moves.move(
            worker.platform, spec, verb, actor=actor, reason=given["reason"], decided_on=decided_on
        )

    return answer(moves.state_of(await done(made)))


async def rollback(request: Request) -> Response:
    """Go back to the champion before, in one step."""
    worker, spec = model_of(request)
    given = await given_in(request, "reason", "to")
    to = given.get("to")
    if to is not None and (type(to) is not str or not to.isdigit()):
        raise Refusal(shown(to), expected="the number of a version, as text", field="to")
    actor = actor_of(request, worker)
    releases = worker.platform.releases(spec)
    entry = await done(
        lambda: releases.rollback(spec.name, to=to, actor=actor, reason=given["reason"])
    )
    return answer({"model": spec.name, "champion": entry.after.get("champion"), "entry": entry.seq})


def model_of(request: Request) -> tuple[Worker, ModelSpec]:
    """The worker, and the model in the address; a Refusal when it is not served."""
    worker: Worker = request.app.state.worker
    model = request.path_params["model"]
    worker.cache.get(model)
    return worker, worker.cache.by_name[model]


def actor_of(request: Request, worker: Worker) -> str:
    """Who asks, for the ledger: by their token, or else who runs the server."""
    who = request.scope.get(NOTES, {}).get("client")
    return f"{who} (token)" if who else f"{worker.platform.settings.who} (model server)"


async def given_in(request: Request, *names: str) -> Mapping[str, Any]:
    """The body: only these names, and a reason; a Refusal for all else."""
    document = parsed(await body_of(request, JSON))
    only(document, names)
    reason = document.get("reason")
    if type(reason) is not str or not 0 < len(reason.strip()) <= _MOST_REASON:
        raise Refusal(
            shown(reason),
            expected="why, in words: it stands in the ledger for good",
            field="reason",
        )
    return document


async def done(work: Callable[[], T]) -> T:
    """Do what takes its time beside the requests, and tell in our words why it is refused."""
    try:
        return await to_thread.run_sync(work)
    except MlopsAssetsError as error:
        # Who was overtaken has to decide again; the same request would be another move.
        away = isinstance(error, LedgerError) and not isinstance(error, OvertakenError)
        status = 404 if isinstance(error, RegistryError) else 503 if away else 409
        raise Refusal(
            error.found,
            expected=error.expected,
            do=error.do,
            status=status,
            retry_after=5 if away else None,
        ) from error
