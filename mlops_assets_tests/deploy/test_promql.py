"""The evaluator that judges the rules says what Prometheus says."""

import math

import pytest

from mlops_assets_tests.deploy.promql import Labels, Samples, evaluate, parsed, quantile


def labels(name: str, **given: str) -> Labels:
    return frozenset({("__name__", name), *given.items()})


def plain(found: object) -> dict[str, float]:
    assert isinstance(found, dict)
    return {",".join(f"{k}={v}" for k, v in sorted(at) if k != "__name__"): value
            for at, value in found.items()}  # fmt: skip


def every(seconds: float, *values: float, since: float = 0.0) -> Samples:
    return [(since + n * seconds, value) for n, value in enumerate(values)]


SERIES = {
    labels("c", a="1"): every(15, *range(0, 1000, 3)),
    labels("c", a="2"): every(15, *range(0, 2000, 6)),
    labels("reset", a="1"): every(15, 100, 110, 120, 5, 15, 25, 35, 45, 55, 65, 75, 85, 95, 105),
    labels("g", a="1", b="x"): every(15, 1, 5, 2),
    labels("g", a="2", b="y"): every(15, 7, 7, 7),
    labels("h", a="1"): every(15, 4, 4, 4),
}


@pytest.mark.parametrize(
    ("text", "at", "expected"),
    [
        # 3 in 15 s, whatever the place of the samples in the range.
        ("rate(c[5m])", 600, {"a=1": 0.2, "a=2": 0.4}),
        ("rate(c[5m])", 607, {"a=1": 0.2, "a=2": 0.4}),
        ("increase(c{a='1'}[1m])", 600, {"a=1": 12.0}),
        ("sum(rate(c[5m]))", 600, {"": 0.6}),
        # After a reset the counter has grown by what it shows.
        ("increase(reset[150s])", 195, {"a=1": 100.0}),
        # 30 samples of growth from zero: not stretched below zero.
        ("increase(c{a='1'}[15m])", 450, {"a=1": 90.0}),
        ("g > 3", 30, {"a=2,b=y": 7.0}),
        ("time() - h", 30, {"a=1": 26.0}),
        ("g offset 15s", 30, {"a=1,b=x": 5.0, "a=2,b=y": 7.0}),
        ("g", 329, {"a=1,b=x": 2.0, "a=2,b=y": 7.0}),
        ("g", 330, {}),
        ("max_over_time(g[1m])", 300, {}),
        ("max_over_time(g[5m])", 300, {"a=1,b=x": 5.0, "a=2,b=y": 7.0}),
        ("max by (b) (g)", 30, {"b=x": 2.0, "b=y": 7.0}),
        ("count(g == 7)", 30, {"": 1.0}),
        ("g{b!='x'}", 30, {"a=2,b=y": 7.0}),
        ("g{b=~'x|z'}", 30, {"a=1,b=x": 2.0}),
        ("g{b!~'x|z'}", 30, {"a=2,b=y": 7.0}),
        ("g / on (a) group_left () h", 30, {"a=1,b=x": 0.5}),
        ("sum by (a) (g) + h", 30, {"a=1": 6.0}),
        ("sum by (a) (g) unless h", 30, {"a=2": 7.0}),
        ("sum by (a) (g) and h", 30, {"a=1": 2.0}),
        ("h or sum by (a) (g)", 30, {"a=1": 4.0, "a=2": 7.0}),
        ("absent(g > 100)", 30, {"": 1.0}),
        ("absent(g > 6)", 30, {}),
        ("-h * 2", 30, {"a=1": -8.0}),
        ("h / 0 > 0", 30, {"a=1": math.inf}),
        ("h * 0 / 0 > 0", 30, {}),
    ],
)
def test_expressions_mean_what_prometheus_says(
    text: str, at: float, expected: dict[str, float]
) -> None:
    found = plain(evaluate(parsed(text), SERIES, at))
    assert found.keys() == expected.keys()
    assert all(found[key] == pytest.approx(value) for key, value in expected.items())


def test_a_counter_that_is_born_has_no_rate_yet() -> None:
    series = {labels("c"): every(15, 1, since=100)}
    assert evaluate(parsed("increase(c[5m])"), series, 110) == {}


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 1.0), (0.25, 0.5), (0.75, 2.0), (0.99, 2.96), (0.0, 0.0)]
)
def test_quantiles_of_histograms_are_interpolated(share: float, expected: float) -> None:
    buckets = [(1.0, 50.0), (3.0, 100.0), (math.inf, 100.0)]
    assert quantile(share, buckets) == pytest.approx(expected)


def test_beyond_the_last_bucket_its_bound_is_told() -> None:
    assert quantile(0.99, [(1.0, 50), (3.0, 60), (math.inf, 100)]) == 3.0
    assert math.isnan(quantile(0.5, [(1.0, 0), (math.inf, 0)]))


@pytest.mark.parametrize("text", ["avg(g)", "deriv(g[5m])", "stddev by (a) (g)", "g ^ 2"])
def test_what_is_not_known_is_no_silence(text: str) -> None:
    with pytest.raises(KeyError):
        evaluate(parsed(text), SERIES, 30)
