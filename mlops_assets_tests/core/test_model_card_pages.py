"""A card can be read on a phone, on a desk and on paper: looked at in a browser."""

import html
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from mlops_assets.core.model_card import (
    ModelCard,
    render,
)
from mlops_assets_tests.core.card_world import CARD, regression

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


@pytest.fixture(scope="module")
def text() -> str:
    return render(CARD)


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
