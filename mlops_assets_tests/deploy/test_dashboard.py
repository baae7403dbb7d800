"""The dashboard is a whole one: panels beside each other, and queries of what there is."""

import json
import re
from itertools import combinations
from typing import Any

import pytest

from mlops_assets_tests.deploy.metrics_world import DEPLOY, known_metrics, scraped, well
from mlops_assets_tests.deploy.promql import all_in, evaluate, kind, parsed
from mlops_assets_tests.deploy.test_rules import refuse_unknown

DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
CHARTS = [panel for panel in PANELS if panel["type"] != "row"]
TITLES = [panel["title"] for panel in CHARTS]
VARIABLES = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
COLUMNS = 24


def filled(text: str) -> str:
    """A query as Grafana sends it."""
    return text.replace("$__rate_interval", "1m").replace("$model", ".*")


QUERIES = [(p["title"], t["expr"], t["legendFormat"]) for p in CHARTS for t in p["targets"]]


def test_panels_lie_beside_each_other_in_the_columns() -> None:
    boxes = [panel["gridPos"] for panel in PANELS]
    for box in boxes:
        assert min(box["x"], box["y"]) >= 0 < min(box["w"], box["h"])
        assert box["x"] + box["w"] <= COLUMNS
    for one, other in combinations(boxes, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


def test_panels_leave_no_hole() -> None:
    boxes = [panel["gridPos"] for panel in PANELS]
    assert sum(b["w"] * b["h"] for b in boxes) == COLUMNS * max(b["y"] + b["h"] for b in boxes)


def test_ids_and_titles_are_unique() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    assert len(set(TITLES)) == len(TITLES)


def test_what_the_page_promises_is_there() -> None:
    asked = {node.name for _, text, _ in QUERIES for node in all_in(parsed(filled(text)))
             if kind(node) == "VectorSelector"}  # fmt: skip
    unused = {name for name in known_metrics() if name not in asked}
    # The sum and the count of the histogram are in its buckets.
    assert unused == {"mlops_request_seconds_sum", "mlops_request_seconds_count"}


@pytest.mark.parametrize("panel", CHARTS, ids=TITLES)
def test_a_panel_is_whole(panel: dict[str, Any]) -> None:
    source = {"type": "prometheus", "uid": "${datasource}"}
    assert panel["datasource"] == source
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert [target["datasource"] for target in panel["targets"]] == [source] * len(panel["targets"])
    references = [target["refId"] for target in panel["targets"]]
    assert references == [chr(ord("A") + n) for n in range(len(references))]
    if panel["type"] == "table":
        assert all(t["format"] == "table" and t["instant"] for t in panel["targets"])
    else:
        assert panel["type"] == "timeseries"


def test_sources_and_models_are_variables() -> None:
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert VARIABLES["datasource"]["query"] == "prometheus"
    metric, label = re.fullmatch(
        r"label_values\((\w+), (\w+)\)", VARIABLES["model"]["definition"]
    ).groups()  # type: ignore[union-attr]
    assert label in known_metrics()[metric]
    assert VARIABLES["model"]["allValue"] == ".*"
    used = {name for _, text, _ in QUERIES for name in re.findall(r"\$\{?(\w+)", text)}
    assert used <= {*VARIABLES, "__rate_interval"}


@pytest.mark.parametrize(("title", "text", "legend"), QUERIES)
def test_a_query_asks_for_what_there_is_and_shows_it(title: str, text: str, legend: str) -> None:
    expression = parsed(filled(text))
    refuse_unknown(expression)
    found = evaluate(expression, scraped(well()), 0)
    # Not one query of an empty picture: the world has something of everything.
    assert isinstance(found, dict)
    assert found or title == "Errors", title
    for labels in found:
        assert set(re.findall(r"{{(\w+)}}", legend)) <= {name for name, _ in labels}


def test_series_of_a_picture_have_different_names() -> None:
    for panel in CHARTS:
        names = []
        for target in panel["targets"]:
            found = evaluate(parsed(filled(target["expr"])), scraped(well()), 0)
            assert isinstance(found, dict)
            for labels in found:
                by_name = dict(labels)
                legend = target["legendFormat"]
                names.append(re.sub(r"{{(\w+)}}", lambda m, b=by_name: b[m[1]], legend))
        assert len(set(names)) == len(names), panel["title"]
