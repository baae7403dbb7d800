"""One worker process: what it opens at the start, looks at again and again, and closes at the end.

Assembly of the parts of `serving` over a platform. HTTP is in `app`; processes are in `server`.
"""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Callable
from functools import cached_property
from typing import TypeVar

from anyio import to_thread

from mlops_assets.platform import Platform
from mlops_assets.serving.auth import Tokens
from mlops_assets.serving.metrics import Metrics
from mlops_assets.serving.model_cache import ModelCache, Watch
from mlops_assets.serving.online import OnlineFeatures
from mlops_assets.serving.options import ServeOptions
from mlops_assets.serving.predictor import ModelRows, Predictor
from mlops_assets.serving.served_model import QUICK_ROWS
from mlops_assets.serving.traffic import ChampionTraffic, Traffic
from mlops_assets.spec import ModelSpec
from mlops_assets.stores.inference_log import InferenceLog
from mlops_assets.stores.outcomes_log import OutcomesLog

INFERENCE_LOG, OUTCOMES_LOG = "inference_log", "outcomes_log"
"""Folders of the logs, below the home."""

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Worker:
    """Everything that answers requests in one process.

    Args:
        platform: the stores.
        specs: the models.
        options: limits and pauses.
        traffic: says who gets which version; None for the champion aliases.
        metrics: counts; None for new ones.
        parent: process without which this one shall end; None for none.
    """

    def __init__(
        self,
        platform: Platform,
        specs: tuple[ModelSpec, ...],
        options: ServeOptions,
        *,
        traffic: Traffic | None = None,
        metrics: Metrics | None = None,
        parent: int | None = None,
    ) -> None:
        root = platform.settings.root
        self.platform, self.specs, self.options = platform, specs, options
        self.metrics = metrics or Metrics(options.metrics_folder)
        self.tokens = Tokens(root, required=options.open_network)
        self.online = Watch("the online store")
        self.cache = ModelCache(
            specs=specs,
            traffic=traffic or ChampionTraffic(platform.registry),
            load=lambda version: platform.registry.load(version),
            on_load=self.metrics.loaded,
        )
        self.log = InferenceLog(root / INFERENCE_LOG, "serving")
        self.outcomes = OutcomesLog(root / OUTCOMES_LOG, "serving")
        # A store behind a network is not waited for in the loop that answers all requests.
        self._remote = bool(platform.settings.online_url)
        self.draining, self._parent = False, parent

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
        return Predictor(self.cache, self.rows, self.log, self.metrics, now)

    def rows_of(self, model: str) -> ModelRows:
        """What the rows of a model look like.

        Raises:
            Refusal: when it is not served.
        """
        self.cache.get(model)
        return self.rows[model]

    async def do(self, work: Callable[[], T], rows: int, *, online: bool = False) -> T:
        """Do the work of a request: at once when it is short, else beside other requests."""
        if rows <= QUICK_ROWS and not (online and self._remote):
            return work()
        return await to_thread.run_sync(work)

    def look(self) -> None:
        """Follow the registry, the tokens and the hour; slow, and never raises."""
        self.cache.refresh()
        for rows in self.rows.values():
            rows.online.open()
        self.tokens.refresh()
        for log in (self.log, self.outcomes):
            log.close_if_due()
        self.metrics.state(self.cache, self.online)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Load the models, and look again every half second until the end."""
        await to_thread.run_sync(self.look)
        looking = asyncio.create_task(self._keep_looking())
        try:
            yield
        finally:
            self.draining = True
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
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
