"""The part of PromQL that rules and dashboard use, evaluated on made-up series as Prometheus does.

Parsed by `promql_parser`, which is Prometheus' grammar. What is not known here raises, so that no
expression is taken for quiet because it was not understood.
"""

import math
import operator
import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest

Labels = frozenset[tuple[str, str]]
Samples = list[tuple[float, float]]
Series = Mapping[Labels, Samples]
Vector = dict[Labels, float]

LOOKBACK = 300.0
"""Seconds for which Prometheus goes on with the last sample of a series."""


def parser() -> Any:
    """The parser, or a skip; CI has to have it."""
    try:
        import promql_parser
    except ImportError:
        reason = "promql-parser is not installed: pip install promql-parser"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return promql_parser


def parsed(text: str) -> Any:
    return parser().parse(text)


def kind(node: Any) -> str:
    return type(node).__name__


def inside(node: Any) -> list[Any]:
    """The expressions directly in an expression."""
    found = {
        "BinaryExpr": lambda: [node.lhs, node.rhs],
        "AggregateExpr": lambda: [node.expr],
        "ParenExpr": lambda: [node.expr],
        "UnaryExpr": lambda: [node.expr],
        "Call": lambda: list(node.args),
        "MatrixSelector": lambda: [node.vector_selector],
    }
    return found[kind(node)]() if kind(node) in found else []


def all_in(node: Any) -> Iterator[Any]:
    """The expression and all in it."""
    yield node
    for one in inside(node):
        yield from all_in(one)


def evaluate(node: Any, series: Series, at: float) -> Vector | float:
    """The value of an expression at a time: a number, or a vector by labels."""
    return _EVALUATE[kind(node)](node, series, at)


def vector(node: Any, series: Series, at: float) -> Vector:
    found = evaluate(node, series, at)
    assert isinstance(found, dict), f"a number where a vector belongs: {node.prettify()}"
    return found


def _without(labels: Labels, *names: str) -> Labels:
    return frozenset((k, v) for k, v in labels if k not in names)


def _only(labels: Labels, names: Iterable[str]) -> Labels:
    wanted = set(names)
    return frozenset((k, v) for k, v in labels if k in wanted)


def matches(matcher: Any, value: str) -> bool:
    op = str(matcher.op).rpartition(".")[2]
    if op in ("Equal", "NotEqual"):
        return (matcher.value == value) is (op == "Equal")
    assert op in ("Re", "NotRe"), op
    return bool(re.fullmatch(matcher.value, value)) is (op == "Re")


def selected(node: Any, series: Series) -> Iterator[tuple[Labels, Samples]]:
    assert node.name is not None
    assert node.at is None
    assert not node.matchers.or_matchers
    for labels, samples in series.items():
        if ("__name__", node.name) not in labels:
            continue
        by_name = dict(labels)
        if all(matches(one, by_name.get(one.name, "")) for one in node.matchers.matchers):
            yield labels, samples


def _offset(node: Any) -> float:
    return float(node.offset.total_seconds()) if node.offset is not None else 0.0


def _selector(node: Any, series: Series, at: float) -> Vector:
    at -= _offset(node)
    found = {}
    for labels, samples in selected(node, series):
        place = bisect_right(samples, (at, math.inf)) - 1
        if place >= 0 and samples[place][0] > at - LOOKBACK:
            found[labels] = samples[place][1]
    return found


def _ranges(node: Any, series: Series, at: float) -> Iterator[tuple[Labels, Samples, float, float]]:
    assert kind(node) == "MatrixSelector"
    end = at - _offset(node.vector_selector)
    start = end - node.range.total_seconds()
    for labels, samples in selected(node.vector_selector, series):
        first, last = (
            bisect_right(samples, (start, math.inf)),
            bisect_right(samples, (end, math.inf)),
        )
        yield _without(labels, "__name__"), samples[first:last], start, end


def increase(samples: Samples, start: float, end: float) -> float | None:
    """Prometheus' `extrapolatedRate`: what a counter grew by, stretched to the whole range."""
    if len(samples) < 2:
        return None
    (first_at, first), (last_at, _) = samples[0], samples[-1]
    grown, before = 0.0, first
    for _, value in samples[1:]:
        grown += value - before if value >= before else value
        before = value
    sampled = last_at - first_at
    between = sampled / (len(samples) - 1)
    to_start, to_end = first_at - start, end - last_at
    if to_start >= 1.1 * between:
        to_start = between / 2
    if grown > 0 and first >= 0:
        to_start = min(to_start, sampled * first / grown)
    if to_end >= 1.1 * between:
        to_end = between / 2
    return grown * (sampled + to_start + to_end) / sampled


def _rate(node: Any, series: Series, at: float) -> Vector:
    found = {}
    for labels, samples, start, end in _ranges(node.args[0], series, at):
        grown = increase(samples, start, end)
        if grown is not None:
            found[labels] = grown / (end - start) if node.func.name == "rate" else grown
    return found


def _max_over_time(node: Any, series: Series, at: float) -> Vector:
    ranges = _ranges(node.args[0], series, at)
    return {labels: max(v for _, v in samples) for labels, samples, *_ in ranges if samples}


def _absent(node: Any, series: Series, at: float) -> Vector:
    return {} if vector(node.args[0], series, at) else {frozenset(): 1.0}


def _histogram_quantile(node: Any, series: Series, at: float) -> Vector:
    share = evaluate(node.args[0], series, at)
    groups: dict[Labels, list[tuple[float, float]]] = {}
    for labels, count in vector(node.args[1], series, at).items():
        bound = float(dict(labels)["le"])
        groups.setdefault(_without(labels, "le", "__name__"), []).append((bound, count))
    assert isinstance(share, float)
    return {labels: quantile(share, sorted(found)) for labels, found in groups.items()}


def quantile(share: float, buckets: list[tuple[float, float]]) -> float:
    """Prometheus' `bucketQuantile` of cumulative counts by upper bound."""
    total = buckets[-1][1]
    if len(buckets) < 2 or buckets[-1][0] != math.inf or not total:
        return math.nan
    rank = share * total
    place = next(n for n, (_, count) in enumerate(buckets) if count >= rank)
    if place == len(buckets) - 1:
        return buckets[-2][0]
    low, under = buckets[place - 1] if place else (0.0, 0.0)
    high, count = buckets[place]
    return low + (high - low) * (rank - under) / (count - under)


_CALLS: dict[str, Callable[[Any, Series, float], Vector | float]] = {
    "time": lambda node, series, at: float(at),
    "rate": _rate,
    "increase": _rate,
    "max_over_time": _max_over_time,
    "absent": _absent,
    "histogram_quantile": _histogram_quantile,
}
_AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "sum": sum,
    "max": max,
    "count": lambda values: float(len(values)),
}


def _aggregate(node: Any, series: Series, at: float) -> Vector:
    names = [] if node.modifier is None else node.modifier.labels
    assert node.modifier is None or str(node.modifier.type).endswith("By")
    groups: dict[Labels, list[float]] = {}
    for labels, value in vector(node.expr, series, at).items():
        groups.setdefault(_only(labels, names), []).append(value)
    return {labels: _AGGREGATES[str(node.op)](values) for labels, values in groups.items()}


def _divided(a: float, b: float) -> float:
    return a / b if b else math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a)


_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divided,
}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def _key(node: Any) -> Callable[[Labels], Labels]:
    matching = node.modifier.matching if node.modifier is not None else None
    if matching is None:
        return lambda labels: _without(labels, "__name__")
    names = list(matching.labels)
    if str(matching.type).endswith("Include"):
        return lambda labels: _only(labels, names)
    return lambda labels: _without(labels, "__name__", *names)


def _binary(node: Any, series: Series, at: float) -> Vector | float:
    op, key = str(node.op), _key(node)
    assert node.modifier is None or not node.modifier.return_bool
    left, right = evaluate(node.lhs, series, at), evaluate(node.rhs, series, at)
    if op in ("and", "or", "unless"):
        assert isinstance(left, dict)
        assert isinstance(right, dict)
        theirs, ours = {key(labels) for labels in right}, {key(labels) for labels in left}
        if op == "or":
            return left | {k: v for k, v in right.items() if key(k) not in ours}
        return {k: v for k, v in left.items() if (key(k) in theirs) is (op == "and")}
    if isinstance(left, float) and isinstance(right, float):
        return _ARITHMETIC[op](left, right)
    found: Vector = {}
    for labels, a, b in _pairs(node, key, left, right):
        if op in _COMPARISONS:
            if _COMPARISONS[op](a, b):
                found[labels] = a if isinstance(left, dict) else b
        else:
            found[_without(labels, "__name__")] = _ARITHMETIC[op](a, b)
    return found


def _pairs(
    node: Any, key: Callable[[Labels], Labels], left: Vector | float, right: Vector | float
) -> Iterator[tuple[Labels, float, float]]:
    if isinstance(left, float):
        assert isinstance(right, dict)
        yield from ((labels, left, b) for labels, b in right.items())
    elif isinstance(right, float):
        yield from ((labels, a, right) for labels, a in left.items())
    else:
        card = str(node.modifier.card) if node.modifier is not None else "OneToOne"
        many = card.endswith("ManyToOne")
        assert many or card.endswith("OneToOne"), card
        theirs: dict[Labels, float] = {}
        for labels, b in right.items():
            assert key(labels) not in theirs, "many series on the side of one"
            theirs[key(labels)] = b
        taken = [key(labels) for labels in left]
        assert many or len(set(taken)) == len(taken), "many series match one"
        for labels, a in left.items():
            if key(labels) in theirs:
                yield labels if many else key(labels), a, theirs[key(labels)]


def _negated(node: Any, series: Series, at: float) -> Vector | float:
    found = evaluate(node.expr, series, at)
    if isinstance(found, float):
        return -found
    return {_without(labels, "__name__"): -value for labels, value in found.items()}


_EVALUATE: dict[str, Callable[[Any, Series, float], Vector | float]] = {
    "NumberLiteral": lambda node, series, at: float(node.val),
    "ParenExpr": lambda node, series, at: evaluate(node.expr, series, at),
    "UnaryExpr": _negated,
    "VectorSelector": _selector,
    "Call": lambda node, series, at: _CALLS[node.func.name](node, series, at),
    "AggregateExpr": _aggregate,
    "BinaryExpr": _binary,
}
