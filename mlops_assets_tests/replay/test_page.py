import dataclasses
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from rich.console import Console

from mlops_assets.core.estimate import Estimate
from mlops_assets.replay import page, pictures, timeline
from mlops_assets.replay.facts import ARMS, TITLES, Afterwards, Event, Replay, Span
from mlops_assets.replay.walk import Progress
from mlops_assets_tests.replay.replay_world import DAY


def printed(found: Replay) -> str:
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as captured:
        timeline.show(console, found)
    return captured.get()


def test_the_page_holds_everything_that_it_shows(facts: Replay) -> None:
    text = page.page(facts)
    assert not re.findall(r'(?:src|href)="(?!#)', text)
    assert "url(" not in text.replace("url(#", "")
    assert "<script" not in text
    for retrain in facts.retrains:
        assert str(retrain.day) in text
    for name in (*TITLES.values(), facts.ledger["head"]):
        assert name in text


def test_each_picture_is_sound_and_its_ids_are_its_own(facts: Replay) -> None:
    seen: set[str] = set()
    for name, (draw, alt) in page.PICTURES.items():
        svg = pictures.inline(facts, draw, name=name, alt=alt)
        root = ElementTree.fromstring(svg)  # noqa: S314
        own = {element.get("id") for element in root.iter() if element.get("id")}
        assert own
        assert not own & seen
        seen |= own
        assert alt in svg
        assert "font-family" not in svg


def test_equal_facts_give_an_equal_page_and_picture(facts: Replay) -> None:
    once, again = (pictures.inline(facts, pictures.lanes, name="a", alt="") for _ in range(2))
    assert once == again
    assert pictures.poster(facts) == pictures.poster(facts)


def test_words_of_the_model_are_no_markup(facts: Replay) -> None:
    sly = dataclasses.replace(facts, description="<b>bold</b>", model="[red]m[/]")
    assert "<b>bold" not in page.page(sly)


def test_the_terminal_tells_champions_verdicts_and_totals(facts: Replay) -> None:
    text = printed(facts)
    for name in TITLES.values():
        assert name in text
    for retrain in facts.retrains:
        assert str(retrain.day) in text
    assert "chain verified" in text


def test_a_long_reason_is_cut_and_brackets_are_no_markup(facts: Replay) -> None:
    event = Event(facts.start, "refused", "2", "[bold]" + "x" * 500)
    console = Console(width=100)
    with console.capture() as captured, timeline.Follower(console) as follower:
        follower(Progress(facts.start, 1, 2, event, fresh=False))
        follower(Progress(facts.start, 1, 2, event, fresh=True))
    text = captured.get()
    assert "(trained before) [bold]xxx" in text
    assert "…" in text
    assert follower.trained == 1


def empty(facts: Replay) -> Replay:
    """A replay in which nothing was trained and nobody answered."""
    nobody = Span(0, {}, {"ece": "no rows with mature labels"})
    arms = dict.fromkeys(ARMS, nobody)
    return dataclasses.replace(
        facts,
        retrains=(),
        events=(),
        weeks=tuple(dataclasses.replace(one, arms=arms, base_rate=None) for one in facts.weeks),
        days=tuple(
            dataclasses.replace(one, champion=None, canary=None, ece=None, drifted=None)
            for one in facts.days
        ),
        totals=arms,
        against={},
    )


def test_where_nobody_answered_it_says_no_data(facts: Replay) -> None:
    found = empty(facts)
    text = page.page(found)
    assert text.count("no data") >= 3 * len(page.METRICS)
    assert "No model was trained in these days" in text
    assert "no data" in printed(found)
    assert pictures.poster(found).startswith(b"\x89PNG")


def afterwards(low: float, high: float) -> Afterwards:
    return Afterwards(100, "1", Estimate((low + high) / 2, low, high, 100), 0.03, 0.02)


@pytest.mark.parametrize(
    ("low", "high", "word"), [(-0.2, -0.1, "better"), (0.1, 0.2, "worse"), (-0.1, 0.1, "alike")]
)
def test_only_an_interval_without_0_is_sure(low: float, high: float, word: str) -> None:
    assert afterwards(low, high).surely == word


def test_candidates_are_counted_by_verdict_and_by_what_came(facts: Replay) -> None:
    one, two, three = (dataclasses.replace(facts.retrains[0], day=facts.start + n * DAY)
                       for n in range(3))  # fmt: skip
    found = dataclasses.replace(
        facts,
        retrains=(
            dataclasses.replace(one, outcome="failed", then="refused",
                                afterwards=afterwards(0.1, 0.2)),
            dataclasses.replace(two, outcome="failed", then="refused",
                                afterwards=afterwards(-0.2, -0.1)),
            dataclasses.replace(three, outcome="passed", then="canary",
                                afterwards=afterwards(-0.2, -0.1)),
        ),
    )  # fmt: skip
    assert found.audit()["failed"] == {"worse": 1, "better": 1}
    assert found.audit()["passed"] == {"better": 1}
    assert found.in_hindsight() == {"worse": 1, "better": 1}
    assert "1 of 3 retrains passed every gate" in page.answer(found)[0]
    assert "Of the 2 candidates that were kept out, 1 were surely worse" in page.answer(found)[1]


def test_champions_are_told_from_day_to_day_without_a_gap(facts: Replay) -> None:
    spans = facts.champions()
    assert spans[0][1] == facts.start
    assert spans[-1][2] == facts.end
    assert all(one[2] == two[1] for one, two in pairwise(spans))
    assert all(one[0] != two[0] for one, two in pairwise(spans))
