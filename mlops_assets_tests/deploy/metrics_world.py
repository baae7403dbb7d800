"""The metrics that the server has, and made-up series of a server that is well."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase

import mlops_assets.deploy
from mlops_assets.serving.metrics import BUCKETS, Metrics
from mlops_assets_tests.deploy.promql import Labels, Samples

DEPLOY = Path(mlops_assets.deploy.__file__).parent
TARGET = frozenset({"job", "instance"})
"""Labels that Prometheus itself puts on everything that it reads."""

STEP, BEGIN, END = 15, -2700, 2400
"""Seconds: how often is scraped, and from when to when; something goes wrong at 0."""

Over = Callable[[float], float | None]
"""The value of a series by time; None where it is not there."""


def known_metrics() -> dict[str, frozenset[str]]:
    """Labels by name, of all series that the server can show."""
    found: dict[str, frozenset[str]] = {}
    for one in vars(Metrics()).values():
        if isinstance(one, MetricWrapperBase):
            labels = frozenset(one._labelnames)
            for name, more in _series(one._type, one._name):
                found[name] = labels | TARGET | more
    return found


def _series(kind: str, name: str) -> Iterable[tuple[str, frozenset[str]]]:
    none: frozenset[str] = frozenset()
    if kind == "counter":
        return [(f"{name}_total", none)]
    if kind == "histogram":
        bucket = (f"{name}_bucket", frozenset({"le"}))
        return [bucket, (f"{name}_sum", none), (f"{name}_count", none)]
    return [(name, none)]


def growing(rate: float, *, until: float = math.inf, start: float = 0.0) -> Over:
    """A counter of so many in a second."""
    return lambda at: start + rate * (min(at, until) - BEGIN)


def growing_from(rate: float, since: float, base: float = 0.0) -> Over:
    """A counter that grows from some time on."""
    return lambda at: base + rate * max(0.0, at - since)


def steady(value: float) -> Over:
    return lambda at: value


def days_ago(days: float) -> Over:
    """A time that lies so many days before the moment at which it is read."""
    return lambda at: at - days * 86_400


def between(start: float, end: float, inside: float, outside: float | None) -> Over:
    """A value that holds for some time, and another one else."""
    return lambda at: inside if start <= at < end else outside


World = dict[Labels, Over]


def one(name: str, over: Over, /, **labels: str) -> World:
    """A series of the one server that is there."""
    return {frozenset({"__name__": name, "job": "j", "instance": "i", **labels}.items()): over}


def latencies(slow: float, since: float = 0.0, arm: str = "champion") -> World:
    """Ten answers in a second in 3 ms, of which a share takes 0.7 s from some time on."""
    found: World = {}
    for bound in (*BUCKETS, math.inf):
        quick = 0.0 if bound < 0.005 else 10.0
        lost = 10.0 * slow if 0.005 <= bound < 1.0 else 0.0

        def over(at: float, quick: float = quick, lost: float = lost) -> float:
            return quick * (at - BEGIN) - lost * max(0.0, at - since)

        told = "+Inf" if bound == math.inf else str(bound)
        found |= one("mlops_request_seconds_bucket", over, le=told, **_arm("m", "1", arm))
    return found


def _arm(model: str, version: str, arm: str) -> dict[str, str]:
    return {"model": model, "version": version, "arm": arm}


def _monitor(monitor: str, name: str, value: float) -> World:
    labels = {"model": "m", "monitor": monitor}
    return {
        **one("mlops_monitor_value", steady(value), version="1", name=name, **labels),
        **one("mlops_monitor_window_seconds", steady(1.7e9), **labels),
    }


def well() -> World:
    """Two models with traffic, a rollout, old failures, and a little of what always happens."""
    predict, other = "/models/{model}/predict", "/models/{model}/outcomes"
    return {
        **one("mlops_requests_total", growing(10), route=predict, status="200"),
        **one("mlops_requests_total", growing(0.05), route=predict, status="503"),
        **one("mlops_requests_total", growing(1), route=predict, status="400"),
        **one("mlops_requests_total", growing(3), route=other, status="202"),
        **one("mlops_requests_total", growing(5), route="/v2/health/ready", status="503"),
        **one("mlops_predictions_total", growing(10), **_arm("m", "1", "champion")),
        **one("mlops_predictions_total", growing(2), **_arm("m", "1", "control")),
        **one("mlops_predictions_total", growing(2), **_arm("n", "7", "champion")),
        **one("mlops_prediction_errors_total", growing(0.1), **_arm("m", "1", "champion")),
        **one("mlops_features_not_present_total", growing(5), model="m", status="not_found"),
        **one("mlops_features_not_present_total", growing(50), model="m", status="request"),
        **one("mlops_log_bytes_total", growing(9_000), log="inference"),
        **one("mlops_log_bytes_total", growing(100), log="outcomes"),
        **one("mlops_model_loads_total", steady(1), model="m", version="1", outcome="loaded"),
        **one("mlops_model_loads_total", steady(3), model="m", version="0", outcome="failed"),
        **latencies(0.005),
        **one("mlops_model_info", steady(1), **_arm("m", "1", "champion")),
        **one("mlops_model_info", steady(1), **_arm("m", "2", "canary")),
        **one("mlops_model_info", steady(0), **_arm("m", "0", "champion")),
        **one("mlops_model_info", steady(1), **_arm("n", "7", "champion")),
        **one("mlops_away", steady(0), store="registry"),
        **one("mlops_away", steady(0), store="online_store"),
        **one("mlops_requests_in_work", steady(3)),
        **one("mlops_shadow_queue", steady(40), model="m"),
        **one("mlops_shadow_dropped_total", steady(100), model="m"),
        **_monitor("calibration_drift", "ece", 0.02),
        **_monitor("coverage", "coverage", 0.91),
        **_monitor("performance", "log_loss", 0.4),
        **_monitor("feature_drift", "amount", 0.3),
        **_monitor("prediction_drift", "probability", 0.01),
        **one("mlops_rollout_info", steady(1), model="m", version="2", state="canary", share="10"),
        **one("mlops_rollout_info", steady(0), model="m", version="2", state="canary", share="5"),
    }


def scraped(world: World) -> dict[Labels, Samples]:
    """What Prometheus has read of a world."""
    times = range(BEGIN, END + 1, STEP)
    found = {labels: [(float(at), over(at)) for at in times] for labels, over in world.items()}
    return {
        labels: [(at, value) for at, value in samples if value is not None]
        for labels, samples in found.items()
    }
