"""The metrics of several workers, some of which are gone."""

import os
from pathlib import Path

import pytest

from mlops_assets.serving import metrics


@pytest.mark.parametrize(
    ("error", "left"), [(ProcessLookupError, False), (PermissionError, False), (None, True)]
)
def test_the_gauges_of_a_worker_that_is_gone_are_dropped(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[OSError] | None,
    left: bool,
) -> None:
    def ask(process: int, signal: int) -> None:
        assert (process, signal) == (4711, 0)
        if error is not None:
            raise error

    (tmp_path / "gauge_livesum_4711.db").touch()
    monkeypatch.setattr(os, "kill", ask)
    metrics._forget_the_dead(tmp_path)
    assert (tmp_path / "gauge_livesum_4711.db").exists() is left
