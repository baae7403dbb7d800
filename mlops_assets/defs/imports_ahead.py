"""Imports ahead of their use: Feast, MLflow and scikit-learn load while DuckDB works.

A run on an empty home spends a fifth of its time on imports, and DuckDB leaves Python idle during
the first steps. Only the loading of modules belongs here; a step that needs one imports it itself.
"""

import contextlib
import gc
import importlib
import threading
from types import TracebackType

MODULES = ("sklearn.ensemble", "feast", "mlflow.sklearn", "skops.io", "mapie.classification")


class ImportsAhead:
    """Imports `MODULES` in a thread for the length of a block.

    The garbage collector is off while the thread runs: it would else run in that thread too, and
    there finalize SQLite connections of this one, which SQLite refuses.
    """

    def __init__(self) -> None:
        self._thread = threading.Thread(target=_load)

    def __enter__(self) -> "ImportsAhead":
        gc.disable()
        self._thread.start()
        return self

    def settle(self) -> None:
        """Turn the garbage collector on again as soon as the imports are done."""
        if not self._thread.is_alive():
            gc.enable()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.join()
        gc.enable()


def _load() -> None:
    for name in MODULES:
        with contextlib.suppress(ImportError):  # the step that needs it will say so
            importlib.import_module(name)
