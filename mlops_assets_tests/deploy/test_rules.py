"""Every alert fires when it should, on a server that has what it asks for, and only then."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from mlops_assets.core.routing import CHAMPION
from mlops_assets.serving.metrics import Metrics
from mlops_assets_tests.deploy.metrics_world import (
    BEGIN,
    DEPLOY,
    END,
    Over,
    World,
    between,
    days_ago,
    growing,
    growing_from,
    known_metrics,
    latencies,
    one,
    scraped,
    steady,
    well,
)
from mlops_assets_tests.deploy.promql import (
    Labels,
    Samples,
    all_in,
    evaluate,
    kind,
    parsed,
    selected,
)

RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text())["groups"]
    for rule in group["rules"]
]
NAMES = [rule["alert"] for rule in RULES]
EVERY = 60
"""Seconds between evaluations here; a rule is evaluated at least as often by Prometheus."""


def seconds(words: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([smhd])", words).groups()  # type: ignore[union-attr]
    return float(number) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


def firing(rule: dict[str, Any], series: dict[Labels, Samples]) -> set[Labels]:
    """Labels for which a rule fires some time from 0 on: true for as long as its `for` says."""
    expression, wait = parsed(rule["expr"]), seconds(rule.get("for", "0s"))
    since: dict[Labels, float] = {}
    found: set[Labels] = set()
    for at in range(-EVERY, END + 1, EVERY):
        true = evaluate(expression, series, at)
        assert isinstance(true, dict)
        since = {labels: since.get(labels, at) for labels in true}
        found |= {labels for labels, began in since.items() if at >= 0 and at - began >= wait}
    return found


def alerts(world: World) -> set[str]:
    series = scraped(world)
    return {rule["alert"] for rule in RULES if firing(rule, series)}


PREDICT = {"route": "/models/{model}/predict"}
M1 = {"model": "m", "version": "1", "arm": "champion"}
N7 = {"model": "n", "version": "7", "arm": "champion"}
ROLLOUT = {"model": "m", "version": "2", "state": "canary"}
FAILED = {"model": "m", "outcome": "failed"}
GONE = between(-9999, 0, 1, None)


def away() -> World:
    """Nothing is read of the server any more."""

    def over(before: Over) -> Over:
        return lambda at: before(at) if at < 0 else None

    return {labels: over(value) for labels, value in well().items()}


BAD: dict[str, tuple[World, set[str]]] = {
    "2 of 100 requests fail": (
        one("mlops_requests_total", growing_from(0.3, 0), **PREDICT, status="500"),
        {"RequestErrors"},
    ),
    "2 of 100 answers are slow": (latencies(0.02), {"RequestsSlow"}),
    "one arm alone is slow": (latencies(0.02, arm="canary"), {"RequestsSlow"}),
    "a version refuses a tenth of its rows": (
        one("mlops_prediction_errors_total", growing_from(1.2, 0), **M1),
        {"RowsRefused"},
    ),
    "a new version refuses all of its rows, and never predicted": (
        one("mlops_prediction_errors_total", growing_from(1, 0), **{**M1, "version": "9"}),
        {"RowsRefused"},
    ),
    "rows lack a feature and a half": (
        one("mlops_features_not_present_total", growing(10), model="m", status="outside_max_age"),
        {"FeaturesNotPresent"},
    ),
    "the log stands still": (
        one("mlops_log_bytes_total", growing(9_000, until=0), log="inference"),
        {"PredictionsNotLogged"},
    ),
    "there is no log": (
        one("mlops_log_bytes_total", lambda at: None, log="inference"),
        {"PredictionsNotLogged"},
    ),
    "the shadow drops rows": (
        one("mlops_shadow_dropped_total", growing_from(0.1, 0, 100), model="m"),
        {"ShadowQueueFull"},
    ),
    "the shadow drops its first row": (
        one("mlops_shadow_dropped_total", between(0, 9999, 1, None), model="n"),
        {"ShadowQueueFull"},
    ),
    "a version does not load for the first time": (
        one("mlops_model_loads_total", between(0, 9999, 1, None), **FAILED, version="3"),
        {"ModelLoadFailed"},
    ),
    "a version does not load once more": (
        one("mlops_model_loads_total", between(0, 9999, 4, 3), **FAILED, version="0"),
        {"ModelLoadFailed"},
    ),
    "a model has no champion any more": (
        one("mlops_model_info", between(-9999, 0, 1, 0), **M1),
        {"ModelNotServed"},
    ),
    "a model is gone after a restart": (one("mlops_model_info", GONE, **N7), {"ModelNotServed"}),
    "the server cannot be reached": (away(), {"ModelNotServed", "NothingServed"}),
    "a worker serves another champion": (
        one("mlops_model_info", between(0, 9999, 1, None), **{**M1, "version": "2"}),
        {"VersionsDiverge"},
    ),
    "a worker follows another share": (
        one("mlops_rollout_info", between(0, 9999, 1, 0), **ROLLOUT, share="5"),
        {"RolloutsDiverge"},
    ),
    "a model predicts, and its drift was not looked at for days": (
        one("mlops_monitor_window_seconds", days_ago(3.1), model="m", monitor="feature_drift"),
        {"MonitorStopped"},
    ),
    "the ledger is away": (
        one("mlops_away", between(0, 9999, 1, 0), store="ledger"),
        {"StoreAway"},
    ),
}


def _released(old: dict[str, str], new: dict[str, str]) -> World:
    """A worker that follows within half a minute."""
    return {
        **one("mlops_model_info", between(-9999, 30, 1, 0), **old),
        **one("mlops_model_info", between(0, 9999, 1, None), **new),
    }


GOOD: dict[str, World] = {
    "all is well": {},
    "a version is released": _released(M1, {**M1, "version": "2"}),
    "a share grows": {
        **one("mlops_rollout_info", between(-9999, 30, 1, 0), **ROLLOUT, share="10"),
        **one("mlops_rollout_info", between(15, 9999, 1, None), **ROLLOUT, share="25"),
    },
    "labels come after a month": one(
        "mlops_monitor_window_seconds", days_ago(30), model="m", monitor="performance"
    ),
    "yesterday is not computed yet": one(
        "mlops_monitor_window_seconds", days_ago(2.9), model="m", monitor="feature_drift"
    ),
    "a model that nobody asks is not monitored": one(
        "mlops_monitor_window_seconds", days_ago(30), model="idle", monitor="feature_drift"
    ),
    "a store is away for half a minute": one(
        "mlops_away", between(0, 30, 1, 0), store="online_store"
    ),
    "a model is not served for a minute": one("mlops_model_info", between(0, 60, 0, 1), **N7),
    "a canary ends": one("mlops_model_info", between(-9999, 0, 1, 0), **{**M1, "arm": "canary"}),
    "requests fail for half a minute": one(
        "mlops_requests_total",
        lambda at: max(0.0, min(at, 30)),
        **PREDICT,
        status="500",
    ),
    "health checks fail alone": one(
        "mlops_requests_total", growing(90), route="/v2/health/ready", status="503"
    ),
    "many rows are wrong, by fault of their senders": one(
        "mlops_requests_total", growing(20), **PREDICT, status="400"
    ),
}


def restarted() -> World:
    """All counters begin anew, and some series come back a minute later."""

    def over(before: Over) -> Over:
        return lambda at: before(at) if at < 0 else None if at < 60 else before(at - 60 + BEGIN)

    return {
        labels: over(value) if dict(labels)["__name__"].endswith(("_total", "_bucket")) else value
        for labels, value in well().items()
    }


def idle() -> World:
    """Nobody asks since long ago."""
    return {
        labels: steady(value(BEGIN) or 0.0)
        if dict(labels)["__name__"].endswith(("_total", "_bucket"))
        else value
        for labels, value in well().items()
    }


@pytest.mark.parametrize("case", BAD)
def test_what_is_bad_fires_its_alert_and_no_other(case: str) -> None:
    change, expected = BAD[case]
    assert alerts({**well(), **change}) == expected


@pytest.mark.parametrize("case", GOOD)
def test_what_is_well_fires_nothing(case: str) -> None:
    assert alerts({**well(), **GOOD[case]}) == set()


def test_a_restart_fires_nothing() -> None:
    assert alerts(restarted()) == set()


def test_a_server_that_nobody_asks_fires_nothing() -> None:
    assert alerts(idle()) == set()


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    assert set().union(*(expected for _, expected in BAD.values())) == set(NAMES)
    assert len(set(NAMES)) == len(NAMES)


def selectors(rule: dict[str, Any]) -> Iterator[Any]:
    return (node for node in all_in(parsed(rule["expr"])) if kind(node) == "VectorSelector")


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_metrics_and_labels_of_a_rule_exist(rule: dict[str, Any]) -> None:
    refuse_unknown(parsed(rule["expr"]))


def refuse_unknown(expression: Any) -> None:
    """Names and labels that the server does not have."""
    known = known_metrics()
    for node in all_in(expression):
        below = [one for one in all_in(node) if kind(one) == "VectorSelector"]
        assert all(one.name in known for one in below), [one.name for one in below]
        there = frozenset[str]().union(*(known[one.name] for one in below))
        if kind(node) == "VectorSelector":
            assert {matcher.name for matcher in node.matchers.matchers} <= there
        if kind(node) == "AggregateExpr" and node.modifier is not None:
            assert set(node.modifier.labels) <= there
        if kind(node) == "BinaryExpr" and node.modifier and node.modifier.matching:
            assert set(node.modifier.matching.labels) <= there


def test_the_check_of_names_finds_what_does_not_exist() -> None:
    for text in ("mlops_reqests_total", 'mlops_away{shop="x"}', "sum by (arm) (mlops_away)"):
        with pytest.raises(AssertionError):
            refuse_unknown(parsed(text))


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_values_of_labels_in_a_rule_are_those_that_the_server_writes(rule: dict[str, Any]) -> None:
    metrics = Metrics()
    metrics.answered("/models/{model}/predict", 503)
    metrics.predicted("m", "1", CHAMPION, 1, 0.1)
    metrics.failed("m", "1", CHAMPION, 1)
    metrics.features("m", {"NOT_FOUND": 1})
    metrics.logged("inference", 1)
    metrics.loaded("m", "1", False)
    metrics.shadow_dropped("m", 1)
    metrics.info.labels("m", "1", CHAMPION).set(1)
    metrics.away.labels("registry").set(1)
    metrics.windows.labels("m", "feature_drift").set(1)
    metrics.rollouts.labels("m", "1", "canary", "5").set(1)
    page = {
        frozenset({"__name__": sample.name, **sample.labels}.items()): [(0.0, sample.value)]
        for family in text_string_to_metric_families(metrics.page().decode())
        for sample in family.samples
    }
    for node in selectors(rule):
        assert list(selected(node, page)), node.prettify()


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_a_rule_says_what_is_wrong_and_what_to_do_of_labels_that_it_has(
    rule: dict[str, Any],
) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert set(rule["annotations"]) == {"summary", "do"}
    told = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    for change, expected in BAD.values():
        if rule["alert"] in expected:
            fired = firing(rule, scraped({**well(), **change}))
            assert fired
            assert all(told <= {name for name, _ in labels} for labels in fired)


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_ranges_hold_four_scrapes_or_more(rule: dict[str, Any]) -> None:
    scrape = yaml.safe_load((DEPLOY / "prometheus.yml").read_text())["global"]["scrape_interval"]
    ranges = [node.range for node in all_in(parsed(rule["expr"])) if kind(node) == "MatrixSelector"]
    assert all(one >= 4 * timedelta(seconds=seconds(scrape)) for one in ranges)
