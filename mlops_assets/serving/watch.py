"""What a worker knows of the stores outside: whether they answer, and since when they do not."""

import logging
import time
from dataclasses import dataclass

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Watch:
    """Whether one store answers.

    Args:
        name: of what is watched.
        failing_since: seconds since 1970; None while it answers.
    """

    name: str
    failing_since: float | None = None

    def well(self) -> None:
        """Note an answer."""
        if self.failing_since is not None:
            _log.warning("%s answers again", self.name)
            self.failing_since = None

    def failed(self, error: Exception) -> None:
        """Note a failure; the first of several is told."""
        if self.failing_since is None:
            self.failing_since = time.time()
            _log.error("%s does not answer: %s", self.name, type(error).__name__, exc_info=error)
