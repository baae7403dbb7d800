"""Warnings that are known, judged and not worth a user's attention.

Each entry names what is used and why that is fine; anything else warns as usual.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg


@contextmanager
def accepted() -> Iterator[None]:
    """Silence the accepted warnings for the length of the block."""
    with warnings.catch_warnings():
        # Backfill policies, dagster-pandas and dagster-mlflow are "beta": tests cover their use.
        warnings.simplefilter("ignore", dg.BetaWarning)
        warnings.simplefilter("ignore", dg.PreviewWarning)
        # dagster-mlflow reads the context in the way that Dagster deprecated.
        warnings.filterwarnings("ignore", "InitResourceContext", DeprecationWarning)
        # Two readers of MLflow claim local files; they are the same class.
        warnings.filterwarnings("ignore", "The specified dataset source can be", UserWarning)
        yield
