"""Online answers are compared with the lake, and what differs is said with its cause."""

import datetime as dt
import shutil
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from mlops_assets.defs.checks import online
from mlops_assets.defs.checks.online import compare_view, online_check
from mlops_assets.engines import duckdb as engine
from mlops_assets.platform import Platform
from mlops_assets.settings import Settings
from mlops_assets.tables import FeatureView
from mlops_assets_tests.shop_world import SALES_CSV, recent_sales, sales, service

NOW = dt.datetime(2024, 1, 4, 12, tzinfo=dt.UTC)


@pytest.fixture
def platform(own_home: Path) -> Platform:
    return Platform(Settings())


@pytest.fixture
def view(platform: Platform, tmp_path: Path) -> FeatureView:
    """The view in the lake and in the online store, as of NOW."""
    (tmp_path / "sales.csv").write_text(SALES_CSV)
    found = recent_sales(sales(tmp_path / "sales.csv"))
    materialize(platform, found)
    platform.features.apply((service(found),))
    platform.features.to_online(found, NOW)
    return found


def judged(platform: Platform, *views: FeatureView) -> dg.AssetCheckResult:
    spec = SimpleNamespace(features=SimpleNamespace(views=views))
    found = online_check((spec,))(platform=platform)  # type: ignore[arg-type]
    assert isinstance(found, dg.AssetCheckResult)
    return found


def materialize(platform: Platform, view: FeatureView) -> None:
    engine.write_source(platform.lake, view.sources[0])
    engine.write_features(platform.lake, view, engine.days_of(view))


def sell(platform: Platform, view: FeatureView, tmp_path: Path, *lines: str) -> None:
    """Change the source, and the lake after it."""
    (tmp_path / "sales.csv").write_text(SALES_CSV + "".join(f"{line}\n" for line in lines))
    materialize(platform, view)


def test_what_was_just_loaded_is_the_same(platform: Platform, view: FeatureView) -> None:
    compared, found = compare_view(platform, view, NOW)
    assert compared == 4  # two features of two keys, one of them just at its age limit
    assert found == []


def test_a_row_that_online_does_not_have_yet_is_stale(
    platform: Platform, view: FeatureView, tmp_path: Path
) -> None:
    sell(platform, view, tmp_path, "a,tea,2024-01-04T09:00:00Z,5", "b,pot,2024-01-04T09:00:00Z,7")
    _, found = compare_view(platform, view, NOW)
    assert {(one.row, one.cause) for one in found} == {
        ("shop=a, item=tea", "stale"),
        ("shop=b, item=pot", "stale"),
    }


def test_a_row_that_was_not_known_yet_is_late(
    platform: Platform, view: FeatureView, tmp_path: Path
) -> None:
    sell(platform, view, tmp_path, "a,tea,2024-01-04T11:30:00Z,5")
    platform.features.to_online(view, NOW)
    _, found = compare_view(platform, view, NOW)
    assert {one.cause for one in found} == {"late"}


def test_a_value_that_was_computed_otherwise_is_a_transform(
    platform: Platform, view: FeatureView, tmp_path: Path
) -> None:
    text = SALES_CSV.replace("2024-01-04T08:00:00Z,8", "2024-01-04T08:00:00Z,9")
    (tmp_path / "sales.csv").write_text(text)
    materialize(platform, view)
    _, found = compare_view(platform, view, NOW)
    assert {(one.feature, one.online, one.offline, one.cause) for one in found} == {
        ("amount_last", 8.0, 9.0, "transform"),
        ("amount_2d", 10.0, 11.0, "transform"),
    }


def test_a_moment_at_which_everything_is_expired_compares_nothing(
    platform: Platform, view: FeatureView
) -> None:
    assert compare_view(platform, view, NOW + dt.timedelta(days=30)) == (0, [])


def test_a_view_of_which_everything_is_expired_is_named_and_does_not_pass(
    platform: Platform, view: FeatureView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "moment", lambda platform, one: NOW)
    assert judged(platform, view).passed
    empty = view.model_copy(update={"name": "old_sales"})
    later = {"old_sales": NOW + dt.timedelta(days=30)}
    shutil.copytree(*(platform.lake.folder(engine.features(one)) for one in (view, empty)))
    monkeypatch.setattr(online, "moment", lambda platform, one: later.get(one.name, NOW))
    found = judged(platform, view, empty)
    assert not found.passed
    assert found.severity is dg.AssetCheckSeverity.WARN
    assert "without a key that is not expired: old_sales" in str(found.description)


def test_each_day_has_a_sample_of_its_own(
    platform: Platform, view: FeatureView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "SAMPLE", 1)
    lasting = view.model_copy(update={"ttl": dt.timedelta(days=30)})

    def looked_at(days: int) -> tuple[str, str]:
        found = online._known(platform, lasting, ["shop", "item"], NOW + dt.timedelta(days=days))
        return found["shop"][0], found["item"][0]

    assert looked_at(0) == looked_at(0)
    assert len({looked_at(days) for days in range(20)}) == 3
