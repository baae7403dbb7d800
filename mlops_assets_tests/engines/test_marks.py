"""Marks by day: a change of the sources makes the days stale that can see it, and no others."""

import datetime as dt
import functools
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mlops_assets.engines import duckdb as engine
from mlops_assets.engines.marks import SourceMark
from mlops_assets.stores.lake import Lake
from mlops_assets.tables import FeatureView, Source
from mlops_assets_tests.shop_world import DAY, SALES_CSV, day, recent_sales, sales, sums

HOUR = dt.timedelta(hours=1)
START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
DAYS = [day(number) for number in range(1, 6)]


class Sale(NamedTuple):
    """A row of the source; the hour counts from the start of the calendar."""

    shop: str
    hour: int
    amount: int | None

    @property
    def line(self) -> str:
        amount = "NA" if self.amount is None else self.amount
        return f"{self.shop},tea,{START + self.hour * HOUR:%Y-%m-%dT%H:%M:%SZ},{amount}\n"

    @property
    def day(self) -> dt.date:
        return (START + self.hour * HOUR).date()


def shifted(hours: int, tables: Any) -> Any:
    """The sums, said to have happened so many hours after the sale."""
    import ibis

    found = sums(tables)
    return found.mutate(event_timestamp=found.event_timestamp + ibis.interval(hours=hours))


class World(NamedTuple):
    """A view whose events lie some hours after the sales, and how far its days see."""

    hours: int
    lookback: dt.timedelta
    lookahead: dt.timedelta

    def computed(self, rows: list[Sale]) -> dict[dt.date, list[tuple[Any, ...]]]:
        """The rows of each day of the view, without marks or reach: from all sales at once."""
        found: dict[dt.date, list[tuple[Any, ...]]] = {day: [] for day in DAYS}
        for shop, hour, amount in rows:
            seen = [s.amount for s in rows if s.shop == shop and hour - 48 <= s.hour <= hour]
            known = [value for value in seen if value is not None]
            event = START + (hour + self.hours) * HOUR
            if event.date() in found:
                found[event.date()].append((event, shop, amount, sum(known) if known else None))
        return {day: sorted(of_day, key=str) for day, of_day in found.items()}

    def see(self, changed: set[dt.date]) -> list[dt.date]:
        """The days of the view that can see a changed day of the source."""
        back, ahead = (-(-span // DAY) for span in (self.lookback, self.lookahead))
        return [d for d in DAYS if any(-back <= (c - d).days <= ahead for c in changed)]


@functools.cache
def view_of(world: World, csv: Path) -> FeatureView:
    found = recent_sales(sales(csv), build=functools.partial(shifted, world.hours))
    return found.model_copy(update={"lookback": world.lookback, "lookahead": world.lookahead})


WORLDS = {
    "as it happens": World(0, 2 * DAY, 0 * DAY),
    "before it is scheduled": World(-20, 2 * DAY, 20 * HOUR),
    "long after": World(30, 78 * HOUR, 0 * DAY),
}
# Some days have many sales, some edges of days have one.
HOURS = [28, 29, 30, 31, 0, 19, 20, 23, 24, 47, 48, 71, 72, 96, 119, 120, 140, 150, -20, -48, -49]
A_SALE = st.builds(
    Sale, st.sampled_from("ab"), st.sampled_from(HOURS), st.none() | st.integers(0, 9)
)


@st.composite
def changes(draw: st.DrawFn) -> tuple[list[Sale], list[Sale]]:
    """Sales, and the same with a row inserted, deleted or edited."""
    before = draw(st.lists(A_SALE, min_size=2, max_size=8))
    place = draw(st.integers(0, len(before) - 1))
    old, new = before[place], draw(A_SALE)
    corrected = old._replace(amount=new.amount)
    rows = draw(st.sampled_from([[corrected], [new], [old, new], []]))
    return before, [*before[:place], *rows, *before[place + 1 :]]


def put(csv: Path, rows: list[Sale]) -> None:
    csv.write_text("shop,item,sold_at,amount\n" + "".join(row.line for row in rows))


def kept(lake: Lake, view: FeatureView) -> dict[dt.date, list[tuple[Any, ...]]]:
    columns = ["event_timestamp", "shop", "amount_last", "amount_2d"]
    found = {}
    for d in DAYS:
        rows = pq.read_table(lake.day_file(engine.features(view), d), columns=columns).to_pylist()
        found[d] = sorted((tuple(row.values()) for row in rows), key=str)
    return found


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
@given(change=changes())
@settings(max_examples=25)
def test_every_day_whose_features_change_is_stale_and_days_out_of_reach_are_not(
    world: World, tmp_path_factory: pytest.TempPathFactory, change: tuple[list[Sale], list[Sale]]
) -> None:
    before, after = change
    csv = tmp_path_factory.getbasetemp() / "sales.csv"
    view = view_of(world, csv)
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder))
        put(csv, before)
        engine.write_source(lake, view.sources[0])
        engine.write_features(lake, view, DAYS)
        old, new = world.computed(before), world.computed(after)
        assert kept(lake, view) == old

        put(csv, after)
        marks = {"sales": engine.write_source(lake, view.sources[0])[1]}
        stale = engine.stale_days(lake, view, marks)
        touched = Counter(before) - Counter(after) + (Counter(after) - Counter(before))
        assert {d for d in DAYS if old[d] != new[d]} <= set(stale)
        assert stale == world.see({row.day for row in touched})

        for d in stale:
            engine.write_features(lake, view, [d])
        assert kept(lake, view) == new
        assert engine.stale_days(lake, view, marks) == []


@given(st.lists(A_SALE, min_size=2, max_size=8), st.randoms(use_true_random=False))
@settings(max_examples=30)
def test_the_order_of_rows_does_not_change_the_mark_of_a_day(rows: list[Sale], random: Any) -> None:
    turned = random.sample(rows, len(rows))
    assume(turned != rows)
    with tempfile.TemporaryDirectory() as folder:
        lake, csv = Lake(Path(folder) / "lake"), Path(folder) / "sales.csv"
        found = []
        for order in (rows, turned):
            put(csv, order)
            found.append(engine.write_source(lake, sales(csv))[1])
    assert found[0].days == found[1].days
    assert found[0].whole != found[1].whole


class Shop(NamedTuple):
    """A lake with all days of the view, none of them stale."""

    lake: Lake
    csv: Path

    @property
    def source(self) -> Source:
        return sales(self.csv)

    def stale(self, view: FeatureView | None = None) -> list[dt.date]:
        """Stale days, by the marks that the lake has."""
        view = view or recent_sales(self.source)
        marks = {s.name: engine.needed_mark(self.lake, s) for s in view.sources}
        return engine.stale_days(self.lake, view, marks)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    found = Shop(Lake(tmp_path / "lake"), tmp_path / "sales.csv")
    found.csv.write_text(SALES_CSV)
    engine.write_source(found.lake, found.source)
    engine.write_features(found.lake, recent_sales(found.source), DAYS)
    assert found.stale() == []
    return found


def test_two_rows_of_a_day_that_swap_a_value_change_its_mark(shop: Shop) -> None:
    # Found by search: hashes of rows that are no further mixed have an equal sum and an equal xor.
    marks = []
    for amounts in [(3250, 14863), (14863, 3250)]:
        put(shop.csv, [Sale(s, 36, n) for s, n in zip(("s1675", "s6932"), amounts, strict=True)])
        marks.append(engine.write_source(shop.lake, shop.source)[1].days)
    assert marks[0] != marks[1]


def test_a_source_without_time_has_no_marks_by_day(shop: Shop) -> None:
    without = shop.source.model_copy(update={"time": None})
    assert engine.write_source(shop.lake, without)[1].days is None
    assert shop.stale(recent_sales(without)) == DAYS


def test_rows_of_no_time_are_seen_by_no_day_and_change_none(shop: Shop) -> None:
    shop.csv.write_text(SALES_CSV + "a,tea,NA,5\n")
    engine.write_source(shop.lake, shop.source)
    assert shop.stale() == []


def missing(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_text(path.read_text()[:-20])


def garbled(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def another(path: Path) -> None:
    path.write_text("[1]")


def emptied(path: Path) -> None:
    path.write_text("{}")


@pytest.mark.parametrize("damage", [missing, cut, garbled, another, emptied])
def test_without_its_marks_by_day_all_days_are_stale_until_they_are_computed(
    damage: Callable[[Path], None], shop: Shop
) -> None:
    damage(shop.lake.root / "raw" / "sales.days.json")
    assert shop.stale() == DAYS
    engine.write_features(shop.lake, recent_sales(shop.source), DAYS)
    assert shop.stale() == []


def test_a_crash_between_a_raw_table_and_its_marks_makes_all_days_stale(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    shop.csv.write_text(SALES_CSV + "a,tea,2024-01-05T09:00:00Z,5\n")
    monkeypatch.setattr(engine.marks, "write_json", crash)
    with pytest.raises(KeyboardInterrupt):
        engine.write_source(shop.lake, shop.source)
    assert shop.lake.read("FROM t", t=shop.lake.file("raw/sales")).num_rows == 6
    assert shop.stale() == DAYS


def test_marks_by_another_column_of_time_do_not_count(shop: Shop) -> None:
    # Without a time all rows are seen, and with another one other rows are.
    timeless = shop.source.model_copy(update={"time": None})
    assert engine.needed_mark(shop.lake, timeless).days is None
    assert shop.stale(recent_sales(timeless)) == DAYS


def test_another_definition_makes_all_days_stale(shop: Shop) -> None:
    assert shop.stale(recent_sales(shop.source, build=functools.partial(shifted, 1))) == DAYS


def test_a_longer_lookback_or_lookahead_makes_the_days_stale_that_see_more(shop: Shop) -> None:
    view = recent_sales(shop.source)
    # There are sales on the days 1, 2 and 4.
    assert shop.stale(view.model_copy(update={"lookback": 3 * DAY})) == [day(4), day(5)]
    assert shop.stale(view.model_copy(update={"lookahead": 2 * DAY})) == [day(2)]


def test_a_part_of_a_day_of_lookback_reaches_the_whole_day(shop: Shop) -> None:
    view = recent_sales(shop.source)
    assert shop.stale(view.model_copy(update={"lookback": 2 * DAY - HOUR})) == []


def test_a_day_without_a_file_is_stale(shop: Shop) -> None:
    shop.lake.day_file("features/recent_sales", day(3)).unlink()
    assert shop.stale() == [day(3)]


def test_a_day_with_added_rows_alone_is_not_stale(shop: Shop) -> None:
    first = shop.lake.day_file("features/recent_sales", day(1))
    first.with_name("2024-01-01.added-1.parquet").write_bytes(first.read_bytes())
    assert shop.stale() == []


def test_a_view_over_two_sources_sees_the_days_of_one_and_the_whole_of_the_other(
    shop: Shop,
) -> None:
    other = shop.source.model_copy(update={"name": "other", "time": None})
    view = recent_sales(shop.source).model_copy(update={"sources": (shop.source, other)})
    days = engine.needed_mark(shop.lake, shop.source).days or {}
    marks = {"sales": SourceMark("1", days), "other": SourceMark("1")}
    before = engine.features_marks(view, marks, DAYS)
    late = {**marks, "sales": SourceMark("2", {**days, "2024-01-04": "new"})}
    changed = engine.features_marks(view, late, DAYS)
    assert [d for d in DAYS if changed[d] != before[d]] == [day(3), day(4), day(5)]
    whole = engine.features_marks(view, {**marks, "other": SourceMark("2")}, DAYS)
    assert [d for d in DAYS if whole[d] != before[d]] == DAYS
