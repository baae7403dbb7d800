"""Pictures are small PNG files, whatever the numbers."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from mlops_assets.core.calibration import reliability_bins
from mlops_assets.core.plots import RED, confusion_chart, importance_chart, reliability_diagram

RANDOM = np.random.default_rng(0)
CALIBRATED = RANDOM.random(20_000)


def is_small_png(picture: bytes) -> bool:
    return picture.startswith(b"\x89PNG\r\n\x1a\n") and len(picture) < 100_000


def has_colour(picture: bytes, colour: str) -> bool:
    pixels = np.round(imread(io.BytesIO(picture))[:, :, :3] * 255)
    return bool((pixels == np.round(np.array(to_rgb(colour)) * 255)).all(axis=2).any())


def height(picture: bytes) -> int:
    return int.from_bytes(picture[20:24])


def diagram(scores: np.ndarray, *, limit: float = 0.05, labels: np.ndarray | None = None) -> bytes:
    if labels is None:
        labels = RANDOM.random(len(scores)) < scores
    return reliability_diagram(reliability_bins(labels, scores), title="returns 1", limit=limit)


@pytest.mark.parametrize(
    "scores",
    [
        CALIBRATED,
        np.full(5_000, 0.3),  # one bin
        CALIBRATED * 1e-3,
        1 - CALIBRATED * 1e-3,
        np.round(CALIBRATED),  # sure of everything
        CALIBRATED[:300],
    ],
    ids=["calibrated", "constant", "near zero", "near one", "zero or one", "few rows"],
)
def test_a_reliability_diagram_is_a_small_png(scores: np.ndarray) -> None:
    assert is_small_png(diagram(scores))


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_a_model_that_always_says_the_same_can_be_drawn(score: float) -> None:
    labels = np.arange(1_000) % 500 == 0
    assert is_small_png(diagram(np.full(1_000, score), labels=labels))


@pytest.mark.parametrize(("limit", "broken"), [(0.5, False), (0.05, True)])
def test_a_bin_is_red_when_it_breaks_the_limit(limit: float, broken: bool) -> None:
    labels = RANDOM.random(20_000) < CALIBRATED**2
    assert has_colour(diagram(CALIBRATED, limit=limit, labels=labels), RED) == broken


def test_an_importance_chart_is_a_small_png() -> None:
    assert is_small_png(importance_chart({"a": 0.3, "b": 0.0, "c": -0.01}, title="returns 1"))


@pytest.mark.parametrize(
    "importance",
    [{}, {"a": 0.0}, {"a": 1e9, "b": 1e-9}, {"a_very_long_name" * 6: 0.1}, {"$x_1$ & <b>": 0.1}],
    ids=["nothing", "zero", "wide range", "long name", "markup"],
)
def test_extreme_importances_can_be_drawn(importance: dict[str, float]) -> None:
    assert is_small_png(importance_chart(importance, title="returns 1"))


def test_only_the_most_important_columns_are_drawn() -> None:
    many = {f"column {i}": 1 / (i + 1) for i in range(500)}
    few = dict(list(many.items())[:20])
    assert importance_chart(many, title="") == importance_chart(few, title="")


def test_the_picture_grows_with_the_number_of_columns() -> None:
    one, ten = ({f"column {i}": 1.0 for i in range(n)} for n in (1, 10))
    assert height(importance_chart(one, title="")) < height(importance_chart(ten, title=""))


@pytest.mark.parametrize(
    "counts",
    [[[90, 10], [20, 80]], [[10**9, 0], [0, 1]], [[5, 0], [5, 0]], [[5, 5], [0, 0]]],
    ids=["usual", "huge", "one decision", "one class"],
)
def test_a_confusion_chart_is_a_small_png(counts: list[list[int]]) -> None:
    assert is_small_png(confusion_chart(np.array(counts), title="returns 1"))


def test_equal_numbers_give_equal_pictures() -> None:
    counts = np.array([[90, 10], [20, 80]])
    assert confusion_chart(counts, title="a") == confusion_chart(counts, title="a")
