"""A card says every fact in its section, escapes all of it, and can be read on phone and paper."""

import html
import json
import os
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn.metrics import precision_recall_curve, roc_curve

from mlops_assets.core import card_plots
from mlops_assets.core.calibration import expected_calibration_error, reliability_bins
from mlops_assets.core.comparison import compare
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.model_card import (
    Choice,
    Comparison,
    Coverage,
    Data,
    Features,
    Gates,
    HoldoutUse,
    Intent,
    Lineage,
    ModelCard,
    Performance,
    QuantileReliability,
    Reliability,
    Window,
    render,
)
from mlops_assets.core.mondrian import GroupCoverage
from mlops_assets.core.regression import LEVELS, quantile_calibration, quantile_calibration_error
from mlops_assets.core.selection import Fold, Score, Selection
from mlops_assets.core.slices import classification_slices
from mlops_assets.core.verdict import Outcome, Verdict

RANDOM = np.random.default_rng(0)
N = 6_000
SCORES = RANDOM.beta(2, 6, N)
LABELS = RANDOM.random(N) < SCORES
ADDRESS = "http://127.0.0.1:5000/#/runs/7"
EVIL = "<script>alert('x')</script> & \"co\""
VOID = {"br", "circle", "hr", "line", "link", "meta", "path", "use", "wbr"}
DIGEST = "6686d31c782c017add047427eff1d8ee5c87dfe6067861ca52e9c1c69be38a97"


def verdict(gate: str, outcome: Outcome, **more: Any) -> Verdict:
    numbers = {"estimate": 0.0109, "low": 0.0037, "high": 0.0139, "n": 27_233, "threshold": 0.02}
    return Verdict(gate, outcome, **{**numbers, "reason": f"reason of {gate}", **more})


def slices() -> Any:
    halves = np.where(np.arange(N) < N // 2, "left", "right")
    halves[:40] = "tiny"
    return classification_slices({"side": halves}, LABELS, np.where(halves == "right", 0.1, SCORES))


def the_card() -> ModelCard:
    score = Score(0.4412, 0.1234, 0.0051, 10_000)
    folds = (
        Fold("boosting", 1, "2013-09-03", score, score),
        Fold("logistic", 1, "2013-09-03", score, replace(score, loss=0.4555)),
        Fold("boosting", 0, "2013-08-07", score, score),
    )
    bins = reliability_bins(LABELS, SCORES)
    fpr, tpr, _ = roc_curve(LABELS, SCORES)
    precision, recall, _ = precision_recall_curve(LABELS, SCORES)
    return ModelCard(
        model="flight_delay",
        version="2",
        made_at="2026-11-20 22:24 UTC",
        intent=Intent("Late?", ("team:ops",), "binary", "arrives_late", "every flight", 0.5),
        aliases=("challenger",),
        gates=Gates(
            (verdict("ece_below_limit", "passed"), verdict("coverage", "failed", low=0.031)),
            {"ece_below_limit": "ECE < 0.02"},
        ),
        comparison=Comparison("1", compare(LABELS, SCORES, SCORES**2)),
        reliability=Reliability(
            bins, 0.05, expected_calibration_error(bins), 0.02,
            tuple(np.histogram(SCORES, 50, (0, 1))[0].tolist()),
        ),
        performance=Performance(
            {"AUC": 0.7077, "Brier": float("nan"), "F1": None},
            n=27_233,
            base_rate=0.19,
            roc=tuple(zip(fpr.tolist(), tpr.tolist(), strict=True)),
            precision_recall=tuple(zip(recall.tolist(), precision.tolist(), strict=True)),
            roc_at=(0.02, 0.12),
        ),
        coverage=Coverage(
            0.9, 0.02, Estimate(0.9137, 0.908, 0.9193, 27_233), 14_658,
            size=Estimate(1.304, 1.299, 1.31, 27_233),
            groups=(
                GroupCoverage("JFK", Estimate(0.85, 0.84, 0.86, 8_700), True),
                GroupCoverage("LGA", Estimate(0.85, 0.84, 0.86, 12), False),
            ),
        ),
        slices=slices(),
        choice=Choice(
            Selection("boosting", folds), "log loss", "sigmoid",
            {"none": 0.38812, "sigmoid": 0.38664},
        ),
        features=Features({"weak": 0.001, "wind_speed": 0.0282, "broken": None}, rows=2_000),
        data=Data((Window("train", "2013-01-01 to 2013-09-30", 252_199, 0.2734),), DIGEST,
                  feature_service="flights_v1", sources={"weather": "0d77"}, purged=520),
        lineage=Lineage("d085c4d5d05ea24112ff+", "4d9a2d39-a0ed", None, {"numpy": "2.3.5"},
                        {"MLflow": ADDRESS}),
        holdout=HoldoutUse(3, ("1", "2", "3")),
        limits=("Only one year was seen.",),
    )  # fmt: skip


CARD = the_card()
SMALLEST = ModelCard("churn", "1", "today", Intent("Gone?", (), "binary", "gone", "everybody"))


def regression() -> ModelCard:
    truth = RANDOM.normal(size=N)
    grid = np.quantile(RANDOM.normal(size=100_000), LEVELS)
    found = quantile_calibration(truth, np.tile(grid, (N, 1)), n_calibrate=5_000)
    return replace(
        CARD,
        intent=replace(CARD.intent, task="regression", threshold=None),
        reliability=None,
        quantiles=QuantileReliability(
            found, 0.05, quantile_calibration_error(found), 0.02, (280, 320, 290, 310) * 5
        ),
        performance=Performance({"MAE": 18.22, "RMSE": 1234.5, "Pinball": 6.9}, unit="minutes"),
        coverage=replace(CARD.coverage, kind="intervals", unit="minutes", groups=()),
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


# What follows looks at the page in a browser.

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--hide-scrollbars",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=15000",
    "--no-pdf-header-footer",
]
PAPER = 680
"""Pixels between the margins of A4."""


def browse(folder: Path, page: str, *arguments: str) -> str:
    browser = shutil.which("chromium")
    if browser is None:
        assert os.environ.get("CI") != "true", "CI has to install chromium"
        pytest.skip("chromium is not installed: apt-get install chromium")
    file = folder / "page.html"
    file.write_text(page)
    command = [browser, *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments, file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def framed(pages: Iterator[tuple[int, str]]) -> str:
    """Pages in frames of a width: a window of Chromium is never narrower than 500 pixels."""
    frames = "".join(
        f'<iframe width="{width}" height="9000" srcdoc="{html.escape(text)}"></iframe>'
        for width, text in pages
    )
    return (
        "<!DOCTYPE html><style>body{margin:0}iframe{border:0;display:block}</style><title></title>"
        + frames
        + """<script>onload = () => {
            const frames = [...document.querySelectorAll("iframe")].map(f => f.contentWindow);
            document.title = JSON.stringify(frames.map(frame => ({
                wide: frame.document.documentElement.scrollWidth, inner: frame.innerWidth,
                pictures: [...frame.document.querySelectorAll("svg[role=img]")].map(svg => {
                    const r = svg.getBoundingClientRect(); return [r.x, r.y, r.width, r.height];
                })
            })));
        }</script>"""
    )


def measured(folder: Path, page: str) -> list[dict[str, Any]]:
    found = browse(folder, page, "--dump-dom", "--window-size=1280,2400")
    return json.loads(re.findall("<title>(.*?)</title>", found)[0])


@pytest.mark.parametrize("card", [CARD, regression()], ids=["binary", "regression"])
def test_no_page_is_wider_than_its_window(tmp_path: Path, card: ModelCard) -> None:
    text = render(card)
    printed = text.replace("@media screen", "@media not all").replace("@media print", "@media all")
    sizes = [(320, text), (390, text), (800, text), (1280, text), (PAPER, printed)]
    found = measured(tmp_path, framed(iter(sizes)))
    assert [frame["inner"] for frame in found] == [width for width, _ in sizes]
    assert [(f["inner"], f["wide"]) for f in found if f["wide"] > f["inner"]] == []


@pytest.mark.parametrize("width", [390, 1280])
def test_no_picture_is_blank(tmp_path: Path, text: str, width: int) -> None:
    page = framed(iter([(width, text)]))
    places = measured(tmp_path, page)[0]["pictures"]
    assert len(places) == 3
    shot = tmp_path / "shot.png"
    browse(tmp_path, page, f"--screenshot={shot}", "--window-size=1280,9000")
    pixels = np.round(imread(shot)[:, :, :3] * 255).astype(int)
    for x, y, wide, high in np.array(places).astype(int):
        picture = pixels[y : y + high, x : x + wide].reshape(-1, 3)
        assert wide >= min(width, 400) - 60
        drawn = (picture != 255).any(axis=1).mean()
        assert 0.02 < drawn < 0.6
        assert (picture == [0x25, 0x63, 0xA8]).all(axis=1).any()


def test_a_card_can_be_printed(tmp_path: Path, text: str) -> None:
    paper = tmp_path / "card.pdf"
    browse(tmp_path, text, f"--print-to-pdf={paper}")
    assert paper.read_bytes().startswith(b"%PDF")
    assert 4 <= len(re.findall(rb"/Type /Page\b", paper.read_bytes())) <= 10
