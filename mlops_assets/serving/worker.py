"""One worker process: what it opens at the start, looks at again and again, and closes at the end.

Assembly of the parts of `serving` over a platform. HTTP is in `app`; processes are in `server`.
"""

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import cached_property
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from mlops_assets.monitoring.newest import newest
from mlops_assets.platform import Platform
from mlops_assets.serving.auth import Tokens
from mlops_assets.serving.controller import Controller
from mlops_assets.serving.evidence import Evidence
from mlops_assets.serving.metrics import Metrics
from mlops_assets.serving.model_cache import ModelCache
from mlops_assets.serving.online import OnlineFeatures
from mlops_assets.serving.options import ServeOptions
from mlops_assets.serving.predictor import ModelRows, Predictor
from mlops_assets.serving.served_model import QUICK_ROWS
from mlops_assets.serving.shadow import Shadow
from mlops_assets.serving.traffic import RolloutTraffic
from mlops_assets.serving.watch import Watch
from mlops_assets.settings import Settings
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.inference_log import InferenceLog, Mask, Prediction
from mlops_assets.stores.outcomes_log import OutcomesLog

INFERENCE_LOG, OUTCOMES_LOG = "inference_log", "outcomes_log"
"""Folders of the logs, below the home."""

MONITOR_SECONDS = 60.0
"""Pause between two looks at the newest numbers of the monitors."""

MOST_THREADS = 40
"""Threads that predict at one time in a worker."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Worker:
    """Everything that answers requests in one process.

    Args:
        platform: the stores.
        specs: the models.
        options: limits and pauses.
        metrics: counts; None for new ones.
        parent: process without which this one shall end; None for none.
    """

    def __init__(
        self,
        platform: Platform,
        specs: tuple[ModelSpec, ...],
        options: ServeOptions,
        *,
        metrics: Metrics | None = None,
        parent: int | None = None,
    ) -> None:
        root = platform.settings.root
        self.platform, self.specs, self.options = platform, specs, options
        self.metrics = metrics or Metrics(options.metrics_folder)
        self.tokens = Tokens(root, required=options.open_network)
        self.online = Watch("the online store")
        self.traffic = RolloutTraffic(platform, specs)
        self.cache = ModelCache(
            specs=specs,
            traffic=self.traffic,
            load=lambda version: platform.registry.load(version),
            on_load=self.metrics.loaded,
        )
        masks = {spec.name: mask_of(spec, platform.settings) for spec in specs}
        self.log = InferenceLog(root / INFERENCE_LOG, "serving", masks=masks)
        self.outcomes = OutcomesLog(root / OUTCOMES_LOG, "serving", masks=masks)
        self.evidence = Evidence()
        self.shadow = Shadow(
            self._log_shadow,
            self.evidence.shadowed,
            self.metrics.shadow_waiting,
            self.metrics.shadow_dropped,
        )
        by_name = {spec.name: spec for spec in specs}
        self.controller = Controller(platform, by_name, self.traffic, self.evidence)
        # A store behind a network is not waited for in the loop that answers all requests.
        self._remote = bool(platform.settings.online_url)
        self.draining, self._parent = False, parent
        self.in_work = 0
        self._next_numbers = 0.0

    @cached_property
    def rows(self) -> dict[str, ModelRows]:
        """What rows look like, by model."""
        settings, features = self.platform.settings, self.platform.features
        return {
            spec.name: ModelRows(
                spec,
                OnlineFeatures(
                    spec,
                    lambda name=spec.features.name: features.reader(name),  # type: ignore[misc]
                    self.online,
                    settings.now,
                ),
            )
            for spec in self.specs
        }

    @cached_property
    def predictor(self) -> Predictor:
        """What predicts."""
        now = self.platform.settings.now
        return Predictor(
            self.cache, self.rows, self.log, self.metrics, self.evidence, self.shadow.offer, now
        )

    def rows_of(self, model: str) -> ModelRows:
        """What the rows of a model look like.

        Raises:
            Refusal: when it is not served.
        """
        self.cache.get(model)
        return self.rows[model]

    def take(self, places: int) -> None:
        """Take places of requests in work; give them back where the number is below 0."""
        self.in_work += places
        self.metrics.in_work.set(self.in_work)

    @cached_property
    def _threads(self) -> CapacityLimiter:
        """The threads of predictions: those that hang keep no look and no move from its own."""
        return CapacityLimiter(MOST_THREADS)

    async def do(self, work: Callable[[], T], rows: int, *, online: bool = False) -> T:
        """Do the work of a request: at once when it is short, else beside other requests.

        A thread cannot be stopped: when the request is given up, it has a place until it ends.
        """
        if rows <= QUICK_ROWS and not (online and self._remote):
            return work()
        wanted = True

        def begun() -> T:
            if not wanted:
                raise TimeoutError
            return work()

        thread = asyncio.ensure_future(to_thread.run_sync(begun, limiter=self._threads))
        try:
            return await asyncio.shield(thread)
        except asyncio.CancelledError:
            wanted = False
            self.take(1)
            thread.add_done_callback(self._ended)
            raise

    def _ended(self, thread: "asyncio.Future[T]") -> None:
        self.take(-1)
        if not thread.cancelled() and thread.exception():
            _log.info("a request that was given up ended with %r", thread.exception())

    def look(self) -> None:
        """Follow the registry, the rollouts, the tokens and the hour; slow, and never raises."""
        self.traffic.look()
        self.cache.refresh()
        self.controller.look()
        for rows in self.rows.values():
            rows.online.open()
        self.tokens.refresh()
        for log in (self.log, self.outcomes):
            log.close_if_due()
        self.metrics.state(self.cache, self.traffic, self.online)
        if time.monotonic() >= self._next_numbers:
            self._next_numbers = time.monotonic() + MONITOR_SECONDS
            self._show_monitors()

    def _show_monitors(self) -> None:
        """Show the newest numbers of the monitors; a file that cannot be read stops no server."""
        lake = self.platform.lake
        try:
            self.metrics.monitors([one for spec in self.specs for one in newest(lake, spec)])
        except Exception:
            _log.exception("the numbers of the monitors cannot be shown")

    def _log_shadow(self, records: Sequence[Prediction]) -> None:
        self.metrics.logged("inference", self.log.append_all(records))

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load the models, and look again every half second until the end."""
        await to_thread.run_sync(self.look)
        if not self.cache.serving:
            _log.warning("no model has a champion, and nothing is served: mlops-assets run")
        looking = asyncio.create_task(self._keep_looking())
        try:
            yield
        finally:
            self.draining = True
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
            self.shadow.close()
            self.controller.close()
            self.log.close()
            self.outcomes.close()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(self.options.poll_seconds)
            if self._parent not in (None, os.getppid()):
                # Nobody would replace or stop this worker any more, and it holds the port.
                _log.error("the supervisor is gone: this worker ends")
                signal.raise_signal(signal.SIGTERM)
                return
            try:
                await to_thread.run_sync(self.look)
            except Exception:
                # Whatever it was, the next look may find it gone; without looks nothing changes.
                _log.exception("a look at the outside failed")


def mask_of(spec: ModelSpec, settings: Settings) -> Mask:
    """What of a model is personal, by its spec; the secret of the hashes is a setting.

    Raises:
        DeclarationError: when something is to be hashed and there is no secret.
    """
    policy = spec.serving
    key = settings.mask_key.get_secret_value().encode()
    return Mask(frozenset(policy.hashed), frozenset(policy.dropped), key if policy.hashed else b"")
