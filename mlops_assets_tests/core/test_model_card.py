"""A card says every fact in its section, escapes all of it, and is the same for the same facts."""

import re
from collections import Counter, defaultdict
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from mlops_assets.core import card_plots
from mlops_assets.core.calibration import reliability_bins
from mlops_assets.core.model_card import (
    Choice,
    Comparison,
    Data,
    Features,
    Gates,
    HoldoutUse,
    Intent,
    Lineage,
    ModelCard,
    Performance,
    Window,
    render,
)
from mlops_assets.core.slices import classification_slices
from mlops_assets_tests.core.card_world import (
    ADDRESS,
    CARD,
    DIGEST,
    EVIL,
    LABELS,
    SCORES,
    SMALLEST,
    VOID,
    N,
    regression,
    the_card,
    verdict,
)


class Page(HTMLParser):
    """The text of each section, and all tags; nesting is checked on the way."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sections: list[str] = ["banner"]
        self.text: dict[str, str] = defaultdict(str)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self.sections.append(dict(attrs)["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert tag in VOID or self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title", "desc", "text"):
            self.text[self.sections[-1]] += data

    def attributes(self, name: str) -> list[str]:
        return [found[name] for _, found in self.tags if name in found]


@pytest.fixture(scope="module")
def text() -> str:
    return render(CARD)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


@pytest.mark.parametrize(
    ("section", "facts"),
    {
        "banner": ["flight_delay, version 2", "challenger", "Must not be released", "1 passed",
                   "1 failed", "0 inconclusive", "coverage failed: reason of coverage.",
                   "Coverage is surely off in 1 of the groups"],
        "intent": ["Late?", "team:ops", "binary", "arrives_late", "every flight", "0.5"],
        "gates": ["ece_below_limit", "passed", "0.0109", "0.0037 to 0.0139", "0.02", "27,233",
                  "reason of ece_below_limit", "ECE < 0.02"],
        "comparison": ["version 1", "6,000 rows", "log_loss", "surely better", "+0."],
        "calibration": ["Expected calibration error", "15 bins", "Reliability diagram"],
        "performance": ["Discrimination", "0.7077", "19.0%", "27,233", "ROC curve", "recall"],
        "coverage": ["0.9137", "0.9080 to 0.9193", "14,658", "JFK", "surely off", "8,700",
                     "LGA", "common rule", "1.3040"],
        "slices": ["1 of 2 judged", "side = right", "deviation off", "side = tiny (40)",
                   "Too small to judge"],
        "choice": ["boosting", "chosen", "logistic", "0.4555", "0.1234", "2013-08-07", "sigmoid",
                   "0.38664"],
        "features": ["wind_speed", "0.0282", "2,000 rows"],
        "data": ["train", "2013-01-01 to 2013-09-30", "252,199", "27.3%", "flights_v1", "520",
                 "weather", "0d77"],
        "lineage": ["d085c4d5d05e", "uncommitted changes", "4d9a2d39-a0ed", "numpy", "2.3.5",
                    ADDRESS],
        "holdout": ["have judged 3 versions of flight_delay", "1, 2, 3"],
        "limits": ["Only one year was seen."],
    }.items(),
)  # fmt: skip
def test_every_section_says_its_facts(page: Page, section: str, facts: list[str]) -> None:
    assert [fact for fact in facts if fact not in page.text[section]] == []


def test_the_worst_comes_first(page: Page) -> None:
    for section, first, second in (
        ("gates", "reason of coverage", "reason of ece"),
        ("slices", "side = right", "side = left"),
        ("features", "wind_speed", "weak"),
        ("choice", "boosting", "logistic"),
    ):
        assert page.text[section].index(first) < page.text[section].index(second)


@pytest.mark.parametrize(
    ("gates", "headline"),
    [
        (None, "May not be released"),
        (Gates((), {}, missing=("a",)), "May not be released"),
        (Gates((verdict("a", "passed"),), {}), "May be released"),
        (Gates((verdict("a", "passed"),), {}, missing=("b",)), "May not be released yet"),
        (Gates((verdict("a", "inconclusive"),), {}), "May not be released yet"),
        (Gates((verdict("a", "inconclusive"),), {}, approvable=True), "Needs a named approver"),
        (Gates((verdict("a", "inconclusive"),), {}, ("b",), approvable=True), "May not be"),
        (Gates((verdict("a", "inconclusive"), verdict("b", "failed")), {}, (), True), "Must not"),
    ],
)
def test_only_passed_verdicts_allow_a_release(gates: Gates | None, headline: str) -> None:
    banner = Page(render(replace(SMALLEST, gates=gates))).text["banner"]
    assert headline in banner
    assert ("May be released" in banner) == (headline == "May be released")


def test_a_gate_that_is_missing_is_named() -> None:
    gates = Gates((verdict("a", "passed"),), {}, missing=("leakage_free",))
    found = Page(render(replace(SMALLEST, gates=gates))).text
    assert "leakage_free has no verdict" in found["banner"]
    assert "no verdict recorded" in found["gates"]


def test_numbers_that_are_none_or_nan_are_not_available(page: Page) -> None:
    assert page.text["performance"].count("not available") == 2
    assert page.text["features"].count("not available") == 1
    assert not re.search(r"\b(nan|None|inf)\b", "".join(page.text.values()))


def test_a_long_hash_is_short_and_whole_in_its_title(page: Page) -> None:
    assert DIGEST in page.attributes("title")
    assert DIGEST[:12] in page.text["data"]
    assert DIGEST not in page.text["data"]


@pytest.mark.parametrize(("times", "warned"), [(1, False), (2, True)])
def test_a_holdout_used_more_than_once_is_warned_of(times: int, warned: bool) -> None:
    found = Page(render(replace(SMALLEST, holdout=HoldoutUse(times)))).text
    assert ("These holdout rows have judged" in found["banner"]) == warned
    assert ("pass by luck" in found["holdout"]) == warned


def test_everything_is_escaped() -> None:
    evil = replace(
        CARD,
        model=EVIL, version=EVIL, made_at=EVIL, aliases=(EVIL,), limits=(EVIL,),
        intent=Intent(EVIL, (EVIL,), "binary", EVIL, EVIL),
        gates=Gates((verdict(EVIL, "failed", reason=EVIL),), {EVIL: EVIL}, (EVIL,)),
        comparison=replace(CARD.comparison, champion=EVIL, note=EVIL),
        performance=Performance({EVIL: 1.0}, unit=EVIL),
        coverage=replace(CARD.coverage, grouped_by=EVIL, unit=EVIL),
        slices=replace(CARD.slices, loss=EVIL, rows=tuple(
            replace(row, slice=EVIL, level=EVIL) for row in CARD.slices.rows)),
        choice=replace(CARD.choice, loss=EVIL, calibration=EVIL, losses={EVIL: 0.1}),
        features=Features({EVIL: 0.1}, EVIL),
        data=Data((Window(EVIL, EVIL, 1, 0.1),), EVIL, EVIL, EVIL, EVIL, {EVIL: EVIL}),
        lineage=Lineage(EVIL, EVIL, EVIL, {EVIL: EVIL}, {EVIL: EVIL}),
        holdout=HoldoutUse(2, (EVIL,)),
    )  # fmt: skip
    found = Page(render(evil))
    assert "script" not in {tag for tag, _ in found.tags}
    told = [name for name in found.sections if name != "calibration"]
    assert [name for name in told if EVIL not in found.text[name]] == []


@pytest.mark.parametrize("card", [CARD, regression(), SMALLEST], ids=["binary", "regression", "-"])
def test_a_page_refers_to_nothing_outside(card: ModelCard) -> None:
    text = render(card)
    found = Page(text)
    assert not {tag for tag, _ in found.tags} & {"script", "link", "img", "iframe", "object"}
    assert not {name for _, each in found.tags for name in each if name.startswith(("on", "src"))}
    ids = Counter(found.attributes("id"))
    assert max(ids.values()) == 1
    targets = [
        *found.attributes("href"),
        *re.findall(r"url\(([^)]*)\)", text),
        *(f"#{name}" for both in found.attributes("aria-labelledby") for name in both.split()),
    ]
    assert [target for target in targets if target[0] != "#" or target[1:] not in ids] == []
    assert "://" not in text.replace(ADDRESS, "")
    assert not {"@import", "xlink"} & set(re.findall(r"@import|xlink", text))


def test_every_picture_has_a_name_and_says_what_it_shows(page: Page) -> None:
    pictures = [found for tag, found in page.tags if tag == "svg" and found.get("role") == "img"]
    assert len(pictures) == 3
    assert [tag for tag, _ in page.tags].count("desc") == 3


def test_equal_cards_have_equal_bytes(text: str) -> None:
    assert render(the_card()).encode() == text.encode()


def test_the_regression_card_has_quantiles_in_place_of_probabilities() -> None:
    found = Page(render(regression()))
    assert "PIT histogram" in found.text["calibration"]
    assert "Quantile calibration error" in found.text["calibration"]
    assert "Reliability diagram" not in found.text["calibration"]
    for fact in ("Errors of the forecast", "18.22 minutes", "1,234 minutes", "6.9000 minutes"):
        assert fact in found.text["performance"]
    assert "Mean width" in found.text["coverage"]
    assert "Decision threshold" not in found.text["intent"]


def test_a_part_that_is_missing_or_empty_is_left_out() -> None:
    assert Page(render(SMALLEST)).sections == ["banner", "intent"]
    empty = replace(
        SMALLEST, gates=Gates((), {}), comparison=Comparison("1", ()), performance=Performance({}),
        choice=Choice(), features=Features({}), data=Data(), lineage=Lineage(),
    )  # fmt: skip
    assert Page(render(empty)).sections == ["banner", "intent"]


@pytest.mark.parametrize("name", ["gates", "slices", "choice", "data", "lineage", "holdout"])
def test_one_part_less_leaves_the_others(page: Page, name: str) -> None:
    fewer = Page(render(replace(CARD, **{name: None}))).sections
    assert fewer == [section for section in page.sections if section != name]


def test_a_card_stays_small_whatever_it_is_given() -> None:
    groups = np.arange(60_000) % 1_000
    scores = np.where(groups < 500, 0.2, 0.8)
    many = classification_slices({"group": groups}, np.arange(60_000) % 2, scores, min_rows=30)
    points = tuple((i / 50_000, (i / 50_000) ** 0.5) for i in range(50_001))
    large = replace(
        CARD, slices=many, features=Features({f"column_{i}": 1 / (i + 1) for i in range(999)}),
        performance=Performance({}, roc=points, precision_recall=points),
    )  # fmt: skip
    text = render(large)
    assert len(text.encode()) < 300_000
    assert "975 more judged slices are not listed, 975 of them flagged" in Page(text).text["slices"]
    assert "984 more columns are not listed" in text


def test_a_threshold_that_nothing_reaches_has_no_point() -> None:
    ends = ((0.0, 1.0), (1.0, 0.2))
    assert "threshold" in card_plots.precision_recall(ends, base_rate=0.2, at=(0.5, 0.5))
    unknown = card_plots.precision_recall(ends, base_rate=float("nan"), at=(0.0, float("nan")))
    assert "threshold" not in unknown
    assert "nan" not in unknown


def test_a_thinned_curve_keeps_its_ends_and_its_shape() -> None:
    x = np.linspace(0, 1, 30_001) ** 8  # most points lie at one end
    kept = card_plots.thinned(list(zip(x, np.sqrt(x), strict=True)))
    assert len(kept) <= 200
    assert kept[[0, -1]].tolist() == [[0, 0], [1, 1]]
    assert np.abs(np.interp(x, *kept.T) - np.sqrt(x)).max() < 0.005
    assert np.abs(np.diff(kept, axis=0)).sum(axis=1).max() < 0.02


@pytest.mark.parametrize("scores", [np.full(N, 0.3), SCORES * 1e-4, np.zeros(N), np.ones(N)])
def test_extreme_scores_can_be_drawn(scores: np.ndarray) -> None:
    labels = np.arange(N) % 500 == 0
    assert "<path" in card_plots.reliability(reliability_bins(labels, scores), limit=0.05)


def test_a_bin_beyond_the_limit_has_another_shape_and_colour() -> None:
    bins = reliability_bins(LABELS, SCORES**2)
    strict, lax = (card_plots.reliability(bins, limit=limit) for limit in (0.01, 0.9))
    assert "beyond the limit" in strict
    assert "--failed" in strict
    assert "--failed" not in lax


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_that_wcag_aa_demands(text: str, theme: int) -> None:
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", text.split(":root {")[1 + theme]))

    def luminance(name: str) -> float:
        each = np.array([int(colours[name][i : i + 2], 16) / 255 for i in (1, 3, 5)])
        linear = np.where(each <= 0.04045, each / 12.92, ((each + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    tints = ["passed-tint", "failed-tint", "inconclusive-tint"]
    for ink in ("ink", "muted", "accent", "passed", "failed", "inconclusive"):
        for ground in ("page", "sheet", *tints):
            low, high = sorted((luminance(ink), luminance(ground)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)
