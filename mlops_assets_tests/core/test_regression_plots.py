"""Pictures of a regression are small PNG files, whatever the numbers."""

import io

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from mlops_assets.core.plots import RED
from mlops_assets.core.regression import LEVELS, quantile_calibration
from mlops_assets.core.regression_plots import forecast_diagram, pit_histogram, quantile_diagram

RANDOM = np.random.default_rng(0)
LABELS = RANDOM.normal(size=20_000)
QUANTILES = np.tile(np.quantile(RANDOM.normal(size=100_000), LEVELS), (20_000, 1))
FLAT = [1_000] * 20


def is_small_png(picture: bytes) -> bool:
    return picture.startswith(b"\x89PNG\r\n\x1a\n") and len(picture) < 100_000


def pixels(picture: bytes) -> np.ndarray:
    return np.round(imread(io.BytesIO(picture))[:, :, :3] * 255).astype(int)


def has_colour(picture: bytes, colour: str, *, alpha: float = 1.0) -> bool:
    """Whether the colour is there, or what of it shines through on white."""
    wanted = 255 * (1 - alpha * (1 - np.array(to_rgb(colour))))
    return bool((np.abs(pixels(picture) - wanted) <= 1).all(axis=2).any())


def diagram(
    labels: np.ndarray = LABELS, *, shift: float = 0.0, limit: float = 0.05, title: str = "demand 1"
) -> bytes:
    quantiles = QUANTILES[: len(labels)] + shift
    found = quantile_calibration(labels, quantiles, n_calibrate=5_000)
    return quantile_diagram(found, title=title, limit=limit)


def histogram(counts: list[int], n_calibrate: int | None = None) -> bytes:
    return pit_histogram(counts, n_calibrate=n_calibrate, title="demand 1")


def forecasts(labels: np.ndarray, points: np.ndarray, unit: str = "") -> bytes:
    return forecast_diagram(labels, points, title="demand 1", unit=unit)


@pytest.mark.parametrize(
    ("labels", "shift"),
    [(LABELS, 0.0), (LABELS, 9.0), (LABELS, -9.0), (LABELS[:300], 0.0), (LABELS[:1], 0.0)],
    ids=["calibrated", "all below", "all above", "few rows", "one row"],
)
def test_a_quantile_diagram_is_a_small_png(labels: np.ndarray, shift: float) -> None:
    assert is_small_png(diagram(labels, shift=shift))


@pytest.mark.parametrize(("limit", "broken"), [(0.5, False), (0.05, True)])
def test_a_level_is_red_when_it_breaks_the_limit(limit: float, broken: bool) -> None:
    assert has_colour(diagram(shift=0.5, limit=limit), RED) == broken


def test_the_direction_of_the_deviation_is_drawn() -> None:
    """Quantiles that are too high have too many rows below: red is above the diagonal."""
    red = np.round(255 * np.array(to_rgb(RED)))
    above, below = (
        np.argwhere((pixels(diagram(shift=shift, title="")) == red).all(axis=2))[:, 0].mean()
        for shift in (0.5, -0.5)
    )
    assert above < below


@pytest.mark.parametrize(
    "counts",
    [FLAT, [1, 0, 0, 0], [0, 0, 0, 0], [5], [0] * 19 + [10**9]],
    ids=["flat", "one row", "no rows", "one bin", "all in the last bin"],
)
@pytest.mark.parametrize("n_calibrate", [None, 500])
def test_a_pit_histogram_is_a_small_png(counts: list[int], n_calibrate: int | None) -> None:
    assert is_small_png(histogram(counts, n_calibrate))


@pytest.mark.parametrize(
    ("first", "n_calibrate", "red"),
    [(1_000, None, False), (1_120, None, True), (1_120, 10_000, False), (1_400, 10_000, True)],
)
def test_a_bar_is_red_when_chance_does_not_explain_it(
    first: int, n_calibrate: int | None, red: bool
) -> None:
    """Of 20 bars of 1,000 rows, one stays within 93 of these with probability 0.9975."""
    picture = histogram([first, *FLAT[1:]], n_calibrate)
    assert has_colour(picture, RED, alpha=0.75) == red


@pytest.mark.parametrize(
    ("labels", "points"),
    [
        (LABELS, LABELS + 0.1),
        (LABELS, np.zeros_like(LABELS)),
        (LABELS * 1e9, LABELS),
        (LABELS[:1], LABELS[:1]),
        (LABELS[:30], LABELS[1:31]),
        (np.ones(100), np.ones(100)),
    ],
    ids=["usual", "constant forecast", "large", "one row", "few rows", "constant target"],
)
def test_a_forecast_diagram_is_a_small_png(labels: np.ndarray, points: np.ndarray) -> None:
    assert is_small_png(forecasts(labels, points, unit="$m_2$ & <minutes>"))


def test_a_few_outliers_do_not_squeeze_the_picture() -> None:
    points = np.sort(LABELS)
    wild = points.copy()
    wild[:5] = 1e6
    drawn = [(pixels(forecasts(labels, points)) != 255).any(axis=2) for labels in (points, wild)]
    assert drawn[1].mean() > 0.7 * drawn[0].mean()


def test_equal_numbers_give_equal_pictures() -> None:
    for draw in (diagram, lambda: histogram(FLAT), lambda: forecasts(LABELS, LABELS)):
        assert draw() == draw()
