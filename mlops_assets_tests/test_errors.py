"""The exception tree."""

import inspect
import re

import pytest

from mlops_assets import errors
from mlops_assets.errors import MlopsAssetsError, UnknownNameError

CLASSES = {
    name: found
    for name, found in inspect.getmembers(errors, inspect.isclass)
    if found.__module__ == errors.__name__
}


def test_a_message_tells_what_was_found_what_was_expected_and_what_to_do() -> None:
    error = MlopsAssetsError("found it", expected="another", do="look there")
    assert str(error) == "found it\n  expected: another\n  to do: look there"
    assert (error.found, error.expected, error.do) == ("found it", "another", "look there")


def test_every_exception_is_drawn_in_the_tree_below_its_parent() -> None:
    parents: list[str] = []
    for indent, name in re.findall(r"^( {4,})(?:[+-] )?(\w+Error)\b", errors.__doc__, re.M):
        depth = len(indent) // 2 - 2
        parents[depth:] = [name]
        assert CLASSES[name].__base__.__name__ == (parents[depth - 1] if depth else "Exception")
    assert len(re.findall(r"\w+Error", errors.__doc__)) == len(CLASSES)


def test_an_unknown_name_is_answered_with_the_nearest_known_one() -> None:
    error = UnknownNameError.of("feature", "temperatur", ["humidity", "temperature"])
    assert error.found == "unknown feature 'temperatur'"
    assert error.expected == "one of: humidity, temperature"
    assert error.do == "did you mean temperature?"


def test_an_unknown_name_far_from_all_others_gets_no_guess() -> None:
    error = UnknownNameError.of("key of route_punctuality", "zzz", ["humidity"])
    assert error.do == "choose one of these"


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_exception_can_be_caught_as_ours(name: str) -> None:
    assert issubclass(CLASSES[name], MlopsAssetsError)
