"""Rollouts as a worker serves them: shadow, shares, moves, failures, and the controller."""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mlops_assets.core.routing import Arm, route
from mlops_assets.errors import DeclarationError
from mlops_assets.experiments import lifecycle
from mlops_assets.platform import Platform
from mlops_assets.rollouts import moves
from mlops_assets.serving import auth
from mlops_assets.serving.served_model import ServedModel
from mlops_assets.serving.worker import Worker
from mlops_assets.serving_policy import RolloutPolicy, ServingPolicy
from mlops_assets.settings import Settings
from mlops_assets.spec import Metric
from mlops_assets.stores import probe
from mlops_assets_tests.rollouts.rollout_world import challenged, released
from mlops_assets_tests.serving.rollout_home import (
    PREDICT,
    QUICK,
    ROLLOUT,
    WHO,
    WHY,
    ask,
    followed,
    logged,
    metric,
    rows,
    spec_of,
    worker_of,
)
from mlops_assets_tests.serving.running import Client, in_thread, wait_for
from mlops_assets_tests.serving.shop_home import FEATURES, KNOWN, NOW, copied

pytestmark = pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")


def begin(platform: Platform, version: str = "2", steps: tuple[float, ...] = ()) -> None:
    moves.start(platform, spec_of(platform), version, steps=steps, **WHO)


def advance(platform: Platform) -> None:
    moves.move(platform, spec_of(platform), "advance", **WHO)


def test_a_shadow_answers_nobody_and_is_logged_under_the_id_of_the_answer(
    rolling: Platform,
) -> None:
    home = rolling.settings.root
    begin(rolling)
    with in_thread(worker_of(rolling)) as client:
        said = ask(client, 50)
        assert {(one["version"], one["arm"]) for one in said} == {("1", "champion")}
        wait_for(lambda: len(logged(home)) == 100)
    by_arm: dict[str, dict[str, Any]] = {"champion": {}, "shadow": {}}
    for one in logged(home):
        by_arm[one["arm"]][one["id"]] = one
    ids = {one["prediction_id"] for one in said}
    assert set(by_arm["champion"]) == set(by_arm["shadow"]) == ids
    for name in ids:
        shadow, answered = by_arm["shadow"][name], by_arm["champion"][name]
        assert (shadow["version"], answered["version"]) == ("2", "1")
        for part in ("features", "numbers", "texts", "entity", "time", "outputs"):
            assert shadow[part] == answered[part]


def test_a_shadow_scores_the_share_of_the_entities_that_it_is_to(rolling: Platform) -> None:
    home, policy = rolling.settings.root, RolloutPolicy(shadow_share=0.3, shadow_rows=10**9)
    begin(rolling)
    with in_thread(worker_of(rolling, policy)) as client:
        for _ in range(2):  # the same entities again
            ask(client, 500)
        wait_for(lambda: sum(one["arm"] == "shadow" for one in logged(home)) >= 240)
    shadowed = Counter(one["entity"]["item"] for one in logged(home) if one["arm"] == "shadow")
    assert 100 < len(shadowed) < 200
    assert set(shadowed.values()) == {2}


def test_arms_get_their_shares_and_entities_stay_in_them(rolling: Platform) -> None:
    begin(rolling, steps=(20, 40, 100))
    advance(rolling)

    def seen() -> dict[int, str]:
        # Another worker, as after a restart.
        worker = worker_of(Platform(Settings(home=rolling.settings.root, now=NOW)))
        with in_thread(worker) as client:
            said = [one for first in (0, 1000) for one in ask(client, 1000, first)]
            table = worker.cache.get("returns").table
        for at, one in enumerate(said):
            arm = route(f"shop=a\x1fitem=i{at}", table)
            assert (one["arm"], one["version"]) == (arm.name, arm.version)
        worker.platform.ledger.close()
        return {at: one["arm"] for at, one in enumerate(said)}

    first = seen()
    assert first == seen()
    counts = Counter(first.values())
    assert abs(counts["canary"] - 400) < 80
    assert abs(counts["control"] - 400) < 80
    advance(rolling)
    wider = seen()
    assert all(wider[at] == arm for at, arm in first.items() if arm != "champion")
    assert abs(Counter(wider.values())["canary"] - 800) < 100


def test_the_interface_moves_a_rollout_to_its_release(rolling: Platform) -> None:
    worker = worker_of(rolling)
    with in_thread(worker) as client:
        assert client.get(ROLLOUT).json == {"model": "returns", "rollout": None}
        begun = client.post(f"{ROLLOUT}/start", {"version": "2", "steps": [50, 100], **WHY})
        assert (begun.status, begun.json["state"]) == (201, "shadow")
        again = client.post(f"{ROLLOUT}/start", {"version": "2", **WHY})
        assert (again.status, "is open" in again.json["found"]) == (409, True)
        for verb, state, share in (
            *(("pause", "paused", 0), ("resume", "shadow", 0), ("advance", "canary", 50)),
            *(("advance", "canary", 100), ("advance", "done", 100)),
        ):
            moved = client.post(f"{ROLLOUT}/{verb}", WHY)
            assert (moved.status, moved.json["state"], moved.json["share"]) == (200, state, share)
        assert client.get(ROLLOUT).json["state"] == "done"
        assert client.post(f"{ROLLOUT}/abort", WHY).status == 409
        wait_for(lambda: {one["version"] for one in ask(client, 20)} == {"2"})
        back = client.post("/models/returns/rollback", WHY)
        assert (back.status, back.json["champion"]) == (200, "1")
        assert client.post("/models/returns/rollback", WHY).status == 409
    actors = {entry.actor for entry in rolling.ledger.entries("returns")[-7:]}
    assert {"(model server)" in actor for actor in actors} == {True}
    assert rolling.ledger.verify() is None


def test_of_one_state_that_was_seen_there_is_one_move(rolling: Platform) -> None:
    begin(rolling)
    with in_thread(worker_of(rolling)) as client:
        seen = {"entry": client.get(ROLLOUT).json["entry"], **WHY}
        assert client.post(f"{ROLLOUT}/advance", seen).status == 200
        again = client.post(f"{ROLLOUT}/advance", seen)
        now = client.get(ROLLOUT).json
    assert (again.status, "retry-after" in again.headers) == (409, False)
    assert "somebody else" in again.json["found"]
    assert (now["state"], now["share"]) == ("canary", 5)


def test_who_loses_a_race_is_not_told_to_try_again(
    rolling: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(rolling)
    opened = moves._open

    def overtaken(*args: Any) -> Any:
        kept = opened(*args)
        monkeypatch.setattr(moves, "_open", opened)
        moves.move(rolling, spec_of(rolling), "pause", **WHO)
        return kept

    with in_thread(worker_of(rolling)) as client:
        monkeypatch.setattr(moves, "_open", overtaken)
        found = client.post(f"{ROLLOUT}/abort", WHY)
    assert (found.status, "retry-after" in found.headers) == (409, False)


def test_behind_an_experiment_the_newest_rollout_is_shown(rolling: Platform) -> None:
    spec = spec_of(rolling, metrics=(Metric(name="m", better="lower"),))
    begin(rolling)
    moves.move(rolling, spec, "abort", **WHO)
    halves = (Arm("old", "1", 5_000), Arm("new", "2", 5_000))
    lifecycle.start(rolling, spec, halves, ["m"], **WHO)
    with in_thread(worker_of(rolling)) as client:
        found = client.get(ROLLOUT).json
    assert (found["kind"], found["state"]) == ("rollout", "aborted")


def test_the_examples_of_the_moves_run_one_after_another(rolling: Platform) -> None:
    with in_thread(worker_of(rolling)) as client:
        paths = client.get("/openapi.json").json["paths"]
        for verb in ("start", "advance", "pause", "resume", "abort"):
            body = paths[f"{ROLLOUT}/{verb}"]["post"]["requestBody"]["content"]
            for example in body["application/json"]["examples"].values():
                assert client.post(f"{ROLLOUT}/{verb}", example["value"]).status in (200, 201)


def test_without_a_challenger_the_example_is_the_champion_before(rolling: Platform) -> None:
    released(rolling, spec_of(rolling), rolling.registry.version("returns", "2"))
    with in_thread(worker_of(rolling)) as client:
        paths = client.get("/openapi.json").json["paths"]
        body = paths[f"{ROLLOUT}/start"]["post"]["requestBody"]["content"]["application/json"]
        [example] = [one["value"] for one in body["examples"].values()]
        begun = client.post(f"{ROLLOUT}/start", example)
    assert (begun.status, begun.json["version"]) == (201, "1")


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("start", {"version": 2, **WHY}, 400, "version"),
        ("start", {"version": "two", **WHY}, 400, "version"),
        ("start", {"version": "2", "steps": "5", **WHY}, 400, "steps"),
        ("start", {"version": "2", "steps": [True], **WHY}, 400, "steps"),
        ("start", {"version": "2", "steps": [50, 25], **WHY}, 409, ""),
        ("start", {"version": "2"}, 400, "reason"),
        ("start", {"version": "2", "reason": "  "}, 400, "reason"),
        ("start", {"version": "2", "reason": "x" * 2_001}, 400, "reason"),
        ("start", {"version": "2", "color": "red", **WHY}, 400, "color"),
        ("start", {"version": "9", **WHY}, 404, ""),
        ("start", {"version": "1", **WHY}, 409, ""),
        ("finish", WHY, 404, ""),
        ("advance", WHY, 409, ""),
        ("abort", {"reason": None}, 400, "reason"),
        ("abort", {"entry": "7", **WHY}, 400, "entry"),
        ("start", {"version": "2", "steps": [1e308], **WHY}, 409, ""),
        ("abort", b"[", 400, ""),
    ],
)
def test_what_is_not_as_it_should_be_is_refused_and_changes_nothing(
    operated: tuple[Platform, Client], path: str, body: Any, status: int, field: str
) -> None:
    platform, client = operated
    head = platform.ledger.head()
    found = client.post(f"{ROLLOUT}/{path}", body)
    assert (found.status, found.json["field"]) == (status, field)
    assert platform.ledger.head() == head


@pytest.fixture(scope="module")
def operated(staged_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A worker that is only asked what it refuses."""
    folder = copied(staged_home, tmp_path_factory.mktemp("operated") / "home")
    platform = Platform(Settings(home=folder, now=NOW))
    with in_thread(worker_of(platform)) as client:
        yield platform, client
    platform.ledger.close()


def test_an_unknown_model_has_no_rollout(operated: tuple[Platform, Client]) -> None:
    assert operated[1].get("/models/nothing/rollout").status == 404


def test_who_operates_may_make_it_safer_and_only_an_admin_gives_it_traffic(
    rolling: Platform,
) -> None:
    root = rolling.settings.root
    roles = ("predict", "operate", "admin")
    headers = {
        role: {"Authorization": f"Bearer {auth.create(root, f'{role}er', role)}"} for role in roles
    }
    with in_thread(worker_of(rolling)) as client:
        begin = {"version": "2", **WHY}

        def status(role: str, verb: str, body: Any = WHY) -> int:
            return client.ask("POST", f"{ROLLOUT}/{verb}", body, headers[role]).status

        assert client.post(f"{ROLLOUT}/start", begin).status == 401
        assert [status(role, "start", begin) for role in roles] == [403, 403, 201]
        assert [client.get(ROLLOUT, **headers[role]).status for role in roles] == [403, 200, 200]
        assert [status(role, "pause") for role in ("predict", "operate")] == [403, 200]
        assert [status(role, "resume") for role in roles] == [403, 403, 200]
        assert [status(role, "advance") for role in roles] == [403, 403, 200]
        assert [status(role, "abort") for role in ("predict", "operate")] == [403, 200]
        back = client.ask("POST", "/models/returns/rollback", WHY, headers["predict"])
        assert back.status == 403
    told = rolling.ledger.entries("returns")[-3:]
    assert [(entry.action, entry.actor) for entry in told] == [
        *(("resume", "adminer (token)"), ("advance", "adminer (token)")),
        ("abort", "operateer (token)"),
    ]


def _changed_file(platform: Platform, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = platform.registry.client.get_model_version_download_uri("returns", version)
    with (Path(uri.removeprefix("file://")) / "model.skops").open("ab") as file:
        file.write(b"x")


def _another_answer(platform: Platform, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check = probe.check_probe

    def other(fitted: Any, text: str, name: str) -> None:
        kept = json.loads(text)
        kept["said"]["probability"][0] += 1e-3
        check(fitted, json.dumps(kept), name)

    monkeypatch.setattr(probe, "check_probe", other)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [(_changed_file, "model.skops of version 3"), (_another_answer, "does not say of its probe")],
)
def test_a_version_that_does_not_load_takes_no_traffic_and_its_rollout_is_aborted(
    rolling: Platform, spoil: Any, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(rolling)
    challenged(rolling, spec, 1)
    worker = worker_of(rolling, QUICK)
    with in_thread(worker) as client:
        assert {one["version"] for one in ask(client, 20)} == {"1"}
        spoil(rolling, "3", monkeypatch)
        begin(rolling, "3")
        versions: set[str] = set()

        def closed() -> bool:
            versions.update(one["version"] for one in ask(client, 5))
            return rolling.rollouts.open("returns") is None

        wait_for(closed)
        followed(worker, rolling)
        versions |= {one["version"] for one in ask(client, 20)}
        assert versions == {"1"}
        assert client.get("/v2/health/ready").status == 200
    entry = rolling.ledger.entries("returns", actions=("abort",))[-1]
    assert entry.actor == "model server"
    assert words in entry.reason


def test_a_canary_that_breaks_on_every_row_is_taken_back(
    rolling: Platform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    predict = ServedModel.predict

    def broken(self: ServedModel, given: Any) -> Any:
        if self.version == "2":
            raise TypeError
        return predict(self, given)

    begin(rolling, steps=(50, 100))
    advance(rolling)
    worker, first = worker_of(rolling, QUICK), 0
    with in_thread(worker) as client, caplog.at_level(logging.CRITICAL):
        followed(worker, rolling)
        monkeypatch.setattr(ServedModel, "predict", broken)
        statuses: set[int] = set()

        def aborted() -> bool:
            nonlocal first
            first += 20
            statuses.update(client.post(PREDICT, rows(1, first + at)).status for at in range(20))
            statuses.add(client.post(PREDICT, rows(20, first)).status)
            return rolling.rollouts.open("returns") is None

        wait_for(aborted)
    assert statuses <= {200, 500}
    entry = rolling.ledger.entries("returns", actions=("abort",))[-1]
    assert entry.evidence["readings"]["errors"]["finding"] == "harm"


def test_a_store_of_models_that_does_not_answer_aborts_nothing(rolling: Platform) -> None:
    worker = worker_of(rolling, QUICK)

    def away(version: Any) -> Any:
        raise ConnectionError

    with in_thread(worker) as client:
        object.__setattr__(worker.cache, "load", away)
        begin(rolling)
        wait_for(lambda: worker.cache.lagging == ["returns"])
        assert client.get("/v2/health/ready").json["cannot_load"] == ["returns"]
        assert {one["version"] for one in ask(client, 20)} == {"1"}
        assert rolling.rollouts.open("returns") is not None


def test_while_the_ledger_is_away_the_last_good_state_goes_on(
    rolling: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    begin(rolling, steps=(50, 100))
    advance(rolling)
    worker, folder = worker_of(rolling), rolling.settings.root / "ledger"

    def told(client: Client) -> tuple[list[str], float]:
        away = client.get("/v2/health/ready").json["away"]
        return away, metric(client, 'mlops_away{store="ledger"}')

    with in_thread(worker) as client:
        followed(worker, rolling)
        before = [one["arm"] for one in ask(client, 100)]
        assert {"canary", "control"} <= set(before)
        assert told(client) == ([], 0.0)
        with caplog.at_level(logging.CRITICAL):
            # A file where the folder was: nothing can be opened or made there.
            folder.rename(folder.with_name("away"))
            folder.touch()
            rolling.ledger.close()
            wait_for(lambda: told(client) == (["the ledger"], 1.0))
            assert [one["arm"] for one in ask(client, 100)] == before
            ready = client.get("/v2/health/ready")
            assert (ready.status, ready.json["last_good_state"]) == (200, True)
            refused = client.post(f"{ROLLOUT}/abort", WHY)
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
        folder.unlink()
        folder.with_name("away").rename(folder)
        wait_for(lambda: told(client) == ([], 0.0))
        assert client.post(f"{ROLLOUT}/abort", WHY).status == 200
        wait_for(lambda: {one["version"] for one in ask(client, 20)} == {"1"})


def test_a_rollback_is_followed_and_loads_nothing(rolling: Platform) -> None:
    spec, worker = spec_of(rolling), worker_of(rolling)
    with in_thread(worker) as client:
        ask(client)
        released(rolling, spec, rolling.registry.version("returns", "2"))
        wait_for(lambda: ask(client)[0]["version"] == "2")
        loads = metric(client, "mlops_model_loads_total")
        rolling.releases(spec).rollback("returns", **WHO)
        wait_for(lambda: ask(client)[0]["version"] == "1")
        assert metric(client, "mlops_model_loads_total") == loads


def test_a_row_that_lacks_a_needed_feature_is_refused(rolling: Platform) -> None:
    needed = ServingPolicy(needed=("amount_last",), overrides=("amount_last",))
    old, home = {**KNOWN, "item": "pot"}, rolling.settings.root
    with in_thread(worker_of(rolling, serving=needed)) as client:
        for body, status, field in (
            ({"entities": [KNOWN]}, 200, None),
            ({"entities": [KNOWN, old]}, 422, "entities[1]"),
            ({"entities": [{**old, "amount_last": 3.0}]}, 200, None),
            ({"features": [FEATURES]}, 200, None),
            ({"features": [{**FEATURES, "amount_last": None}]}, 422, "features[0]"),
        ):
            found = client.post(PREDICT, body)
            assert (found.status, found.json.get("field")) == (status, field)
            if status == 422:
                assert found.json["error_code"] == "FEATURE_MISSING"
    assert len(logged(home)) == 3


def test_what_is_personal_is_logged_as_a_hash_or_not_at_all(
    rolling: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = rolling.settings.root
    policy = ServingPolicy(hashed=("item",), dropped=("amount_last",))
    with pytest.raises(DeclarationError, match="key of 0 bytes"):
        worker_of(rolling, serving=policy)
    monkeypatch.setenv("MLOPS_MASK_KEY", "0123456789abcdef")
    platform = Platform(Settings(home=root, now=NOW))
    begin(platform)
    with in_thread(worker_of(platform, serving=policy)) as client:
        ask(client, 1, first=77)
        wait_for(lambda: len(logged(root)) == 2)
    platform.ledger.close()
    for one in logged(root):
        assert len(one["entity"]["item"]) == 32
        assert "amount_last" not in one["features"]
    files = (root / "inference_log").glob("*.jsonl")
    assert all("i77" not in file.read_text() for file in files)


def test_a_rollback_during_a_rollout_closes_it(rolling: Platform) -> None:
    spec = spec_of(rolling)
    released(rolling, spec, rolling.registry.version("returns", "2"))
    worker: Worker = worker_of(rolling)
    with in_thread(worker) as client:
        begin(rolling, "1", steps=(50, 100))
        advance(rolling)
        followed(worker, rolling)
        rolling.releases(spec).rollback("returns", **WHO)
        wait_for(lambda: rolling.rollouts.open("returns") is None)
        followed(worker, rolling)
        assert {one["version"] for one in ask(client, 50)} == {"1"}
    last = rolling.ledger.entries("returns")[-1]
    assert (last.action, last.actor) == ("abort", "model server")


def test_rows_without_an_entity_are_drawn_anew(rolling: Platform) -> None:
    begin(rolling, steps=(50, 100))
    advance(rolling)
    with in_thread(worker_of(rolling)) as client:
        body = {"features": [{k: v for k, v in FEATURES.items() if k != "item"}] * 4}
        seen = {
            one["arm"] for _ in range(3) for one in client.post(PREDICT, body).json["predictions"]
        }
    assert seen <= {"canary", "control"}
    assert rows(1)["features"][0]["item"] == "i0"
