"""`mlops-assets features`: what there is, and helpful words for what there is not."""

from pathlib import Path

import pytest

from mlops_assets_tests.end_to_end.conftest import command


def test_the_list_names_every_view_and_its_keys(own_home: Path) -> None:
    said = command(own_home, "features", "list").stdout
    assert all(word in said for word in ("route_punctuality", "origin, dest", "hourly_weather"))


def test_a_description_has_columns_and_definition(own_home: Path) -> None:
    said = command(own_home, "features", "describe", "route_punctuality").stdout
    assert "route_late_share_28d" in said
    assert "SELECT" in said


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (("describe", "rout_punctuality"), "did you mean route_punctuality"),
        (("get", "route_punctuality", "origin=JFK"), "the key lacks dest"),
        (("get", "route_punctuality", "orign=JFK", "dest=LAX"), "did you mean origin?"),
        (("get", "hourly_weather", "origin=JFK", "--at", "noon"), "'noon' is not a time"),
    ],
)
def test_what_is_wrong_is_said_with_the_near_matches(
    own_home: Path, words: tuple[str, ...], found: str
) -> None:
    said = command(own_home, "features", *words)
    assert said.returncode == 1
    assert found in said.stderr
