"""Stopping the servers of development."""

import subprocess
import sys

import pytest

from mlops_assets import dev_servers


def test_a_server_that_ends_just_before_it_is_stopped_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], start_new_session=True)
    process.wait()
    gone, looks = dev_servers._gone, [False]
    monkeypatch.setattr(
        dev_servers, "_gone", lambda process: looks.pop() if looks else gone(process)
    )
    dev_servers._stop(process)
    assert looks == []
    assert gone(process)
