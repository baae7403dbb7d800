"""The examples of the page of the interfaces: when they are looked for, and who waits for them."""

import threading
from typing import Any

import pytest

from mlops_assets.serving import app, examples
from mlops_assets.serving.examples import Examples
from mlops_assets.serving.worker import Worker
from mlops_assets_tests.serving.running import PATIENCE, Client


def test_a_row_that_was_not_there_at_first_is_found_later_and_kept(
    client: Client, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, rows, newest = Examples(worker), worker.rows["returns"], examples._newest
    monkeypatch.setattr(examples, "_newest", lambda *_: None)
    assert found.rows(rows)[0] is None
    monkeypatch.setattr(examples, "_newest", newest)
    entity, features = found.rows(rows)
    assert entity is not None
    assert set(features) == set(rows.inputs)
    monkeypatch.setattr(examples, "_newest", lambda *_: pytest.fail("it was known"))
    assert found.rows(rows) == (entity, features)


def test_while_the_page_is_made_others_are_answered(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, made = threading.Event(), threading.Event(), app.document

    def slow(*args: Any) -> Any:
        begun.set()
        go.wait(PATIENCE)
        return made(*args)

    monkeypatch.setattr(app, "document", slow)
    statuses: list[int] = []
    asking = threading.Thread(
        target=lambda: statuses.append(client.get("/openapi.json").status), daemon=True
    )
    asking.start()
    try:
        assert begun.wait(PATIENCE)
        assert client.get("/v2/health/live").status == 200
    finally:
        go.set()
        asking.join()
    assert statuses == [200]
