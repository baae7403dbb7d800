"""Prometheus metrics of the server, right with any number of workers.

With several workers each writes files of its own below `PROMETHEUS_MULTIPROC_DIR`, and whoever is
asked adds them up. Only counting and showing belong here; alerts and rules are in `deploy`.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import nan
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from mlops_assets.core.rollout import Rollout
from mlops_assets.monitoring.newest import Number
from mlops_assets.serving.model_cache import ModelCache
from mlops_assets.serving.traffic import RolloutTraffic
from mlops_assets.serving.watch import Watch

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_ARM = ("model", "version", "arm")


class Metrics:
    """What a worker counts.

    Args:
        folder: where all workers write, which is also in `PROMETHEUS_MULTIPROC_DIR` since before
            prometheus_client was imported; None when there is one worker alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._registry = CollectorRegistry()
        self.requests = self._counter(
            "requests", "Requests by route and status.", "route", "status"
        )
        self.predictions = self._counter("predictions", "Rows that were answered.", *_ARM)
        self.errors = self._counter("prediction_errors", "Rows with which a version failed.", *_ARM)
        self.statuses = self._counter(
            "features_not_present",
            "Features that were missing, stale or given by the request.",
            "model",
            "status",
        )
        self.log_bytes = self._counter("log_bytes", "Bytes appended to a log.", "log")
        self.loads = self._counter(
            "model_loads", "Versions loaded, or tried to.", "model", "version", "outcome"
        )
        self.latency = Histogram(
            "mlops_request_seconds",
            "Time from request to answer by arm.",
            _ARM,
            buckets=BUCKETS,
            registry=self._registry,
        )
        self.info = self._gauge(
            "model_info", "1 for versions that take traffic now.", "livemax", *_ARM
        )
        self.away = self._gauge("away", "1 while a store does not answer.", "livemax", "store")
        self.rollouts = self._gauge(
            "rollout_info",
            "1 for the rollout that a worker follows, its share in percent.",
            "livemax",
            "model",
            "version",
            "state",
            "share",
        )
        self.waiting = self._gauge(
            "shadow_queue", "Rows that wait for the shadow.", "livesum", "model"
        )
        self.dropped = self._counter(
            "shadow_dropped", "Rows that the shadow did not score.", "model"
        )
        self.monitored = self._gauge(
            "monitor_value",
            "The newest number of a monitor: a metric, or the PSI of a column.",
            "livemostrecent",
            *("model", "version", "monitor", "name"),
        )
        self.windows = self._gauge(
            "monitor_window_seconds",
            "Start of the newest window of a monitor, in seconds since 1970.",
            "livemax",
            *("model", "monitor"),
        )
        self.in_work = self._gauge("requests_in_work", "Requests in work.", "livesum")
        self._shown: set[tuple[str, str, str]] = set()
        self._rollouts: set[tuple[str, str, str, str]] = set()
        self._numbers: set[tuple[str, str, str, str]] = set()
        # Finding a child by its labels costs more than counting.
        self._arm: Callable[..., tuple[Any, ...]] = lru_cache(1_000)(
            lambda *arm: (self.predictions.labels(*arm), self.latency.labels(*arm))
        )
        self._log = lru_cache(10)(self.log_bytes.labels)
        self._request: Callable[..., Any] = lru_cache(1_000)(self.requests.labels)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"mlops_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, mode: Any, *labels: str) -> Gauge:
        return Gauge(f"mlops_{name}", text, labels, registry=self._registry, multiprocess_mode=mode)

    def predicted(self, model: str, version: str, arm: str, rows: int, seconds: float) -> None:
        """Count rows of a request that an arm answered."""
        predictions, latency = self._arm(model, version, arm)
        predictions.inc(rows)
        latency.observe(seconds)

    def failed(self, model: str, version: str, arm: str, rows: int) -> None:
        """Count rows of a request with which a version failed."""
        self.errors.labels(model, version, arm).inc(rows)

    def features(self, model: str, statuses: Mapping[str, int]) -> None:
        """Count features that were not present."""
        for status, count in statuses.items():
            self.statuses.labels(model, status.lower()).inc(count)

    def logged(self, log: str, size: int) -> None:
        """Count bytes that were appended to a log."""
        self._log(log).inc(size)

    def loaded(self, model: str, version: str, ready: bool) -> None:
        """Count a load, or a try."""
        self.loads.labels(model, version, "loaded" if ready else "failed").inc()

    def answered(self, route: str, status: int) -> None:
        """Count a request."""
        self._request(route, str(status)).inc()

    def shadow_waiting(self, model: str, rows: int) -> None:
        """Show how many rows wait for the shadow."""
        self.waiting.labels(model).set(rows)

    def shadow_dropped(self, model: str, rows: int) -> None:
        """Count rows that the shadow did not score."""
        self.dropped.labels(model).inc(rows)

    def state(self, cache: ModelCache, traffic: RolloutTraffic, online: Watch) -> None:
        """Show what is served now, which rollouts are followed, and who is away."""
        serving = {
            (model, arm.version, arm.name)
            for model, one in cache.serving.items()
            for arm in one.table.arms
        }
        self._shown = _switched(self.info, self._shown, serving)
        followed = {
            (model, kept.traffic.version, kept.traffic.state, f"{kept.traffic.share / 100:g}")
            for model, kept in traffic.open.items()
            if isinstance(kept.traffic, Rollout)
            and model in cache.serving
            and cache.serving[model].table.rollout == kept.traffic.id
        }
        self._rollouts = _switched(self.rollouts, self._rollouts, followed)
        self.away.labels("registry").set(cache.registry.failing_since is not None)
        self.away.labels("ledger").set(traffic.ledger.failing_since is not None)
        self.away.labels("online_store").set(online.failing_since is not None)

    def monitors(self, numbers: Sequence[Number]) -> None:
        """Show the newest numbers of the monitors."""
        now = {(one.model, one.version, one.monitor, one.name): one.value for one in numbers}
        for gone in self._numbers - now.keys():
            self.monitored.labels(*gone).set(nan)
        for labels, value in now.items():
            self.monitored.labels(*labels).set(value)
        self._numbers |= now.keys()
        for one in numbers:
            self.windows.labels(one.model, one.monitor).set(one.window.timestamp())

    def page(self) -> bytes:
        """The metrics of all workers, in Prometheus' text format."""
        if self._folder is None:
            return generate_latest(self._registry)
        _forget_the_dead(self._folder)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, str(self._folder))
        return generate_latest(registry)


def _switched(gauge: Gauge, before: set[Any], now: set[Any]) -> set[Any]:
    """Show 1 for labels that hold now, and 0 for those that held before."""
    for gone in before - now:
        gauge.labels(*gone).set(0)
    for one in now:
        gauge.labels(*one).set(1)
    return before | now


def _forget_the_dead(folder: Path) -> None:
    """Drop the gauges of workers that are gone; what they counted stays."""
    for process in {path.stem.rpartition("_")[2] for path in folder.glob("gauge_live*.db")}:
        try:
            os.kill(int(process), 0)
        except (ProcessLookupError, PermissionError):
            # A process of another user has got the number of a worker that is gone.
            mark_process_dead(int(process), str(folder))
