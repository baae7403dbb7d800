"""Experiments over HTTP: started, stopped and looked at, as the commands do it.

Which role may do which is decided in `auth`: looking and stopping need less than starting, which
gives versions traffic. What an experiment says is read from the logs by `experiments.lifecycle`,
beside the requests.
"""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from mlops_assets.experiments import lifecycle
from mlops_assets.rollouts import moves
from mlops_assets.serving.bodies import answer
from mlops_assets.serving.operate import actor_of, done, given_in, model_of
from mlops_assets.serving.refusals import Refusal, shown, unknown

MOST_ARMS = 20
_ARM = ("name", "version", "percent")


async def look(request: Request) -> Response:
    """The newest experiment of a model, and what it says now."""
    worker, spec = model_of(request)
    return answer(await done(lambda: lifecycle.report(worker.platform, spec).document))


async def start(request: Request) -> Response:
    """Begin to split the traffic over versions."""
    worker, spec = model_of(request)
    given = await given_in(request, "arms", "metrics", "exposed", "reason")
    arms = _arms(given.get("arms"))
    metrics, exposed = given.get("metrics"), given.get("exposed", 100)
    if type(metrics) is not list or any(type(one) is not str for one in metrics):
        raise Refusal(shown(metrics), expected="names of metrics", field="metrics")
    if type(exposed) not in (int, float):
        raise Refusal(shown(exposed), expected="a percent of the traffic", field="exposed")
    kept = await done(
        lambda: lifecycle.start(
            worker.platform,
            spec,
            [lifecycle.arm(*one) for one in arms],
            metrics,
            exposed=exposed,
            actor=actor_of(request, worker),
            reason=given["reason"],
        )
    )
    return answer(moves.state_of(kept), 201)


async def stop(request: Request) -> Response:
    """Stop the experiment of a model."""
    worker, spec = model_of(request)
    given = await given_in(request, "reason")
    kept = await done(
        lambda: lifecycle.stop(
            worker.platform, spec, actor=actor_of(request, worker), reason=given["reason"]
        )
    )
    return answer(moves.state_of(kept))


def _arms(given: Any) -> list[tuple[str, str, float]]:
    if type(given) is not list or not 2 <= len(given) <= MOST_ARMS:
        raise Refusal(shown(given), expected=f"a list of 2 to {MOST_ARMS} arms", field="arms")
    return [_arm(one, f"arms[{at}]") for at, one in enumerate(given)]


def _arm(given: Any, field: str) -> tuple[str, str, float]:
    if type(given) is not dict:
        raise Refusal(shown(given), expected="an object", field=field)
    for name in given:
        if name not in _ARM:
            raise unknown("field", name, _ARM, field=f"{field}.{str(name)[:60]}")
    name, version = given.get("name"), given.get("version")
    percent: Any = given.get("percent")
    if type(name) is not str:
        raise Refusal(shown(name), expected="the name of an arm", field=f"{field}.name")
    if type(version) is not str or not version.isdigit():
        raise Refusal(
            shown(version),
            expected="the number of a version, as text",
            field=f"{field}.version",
        )
    if type(percent) not in (int, float):
        raise Refusal(shown(percent), expected="a percent", field=f"{field}.percent")
    return name, version, float(percent)
