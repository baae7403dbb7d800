"""How a shadow differs from what was answered."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.core.disagreement import disagreements
from mlops_assets.errors import DataError

SCORES = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.sampled_from("abc")), min_size=1, max_size=40
)


def ranks(values: list[float]) -> list[float]:
    """Ranks with ties in the middle, by definition."""
    return [
        sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2
        for value in values
    ]


@given(SCORES)
def test_every_number_is_what_its_definition_says(rows: list[tuple[float, float, str]]) -> None:
    one, other, levels = (list(column) for column in zip(*rows, strict=True))
    found = disagreements(one, other, threshold=0.5, slices={"shop": levels})
    assert [(d.slice, d.level) for d in found] == [
        ("", ""),
        *(("shop", level) for level in sorted(set(levels))),
    ]
    for said in found:
        chosen = [at for at, level in enumerate(levels) if said.level in ("", level)]
        a, b = [one[at] for at in chosen], [other[at] for at in chosen]
        assert said.n == len(chosen)
        assert said.mean == pytest.approx(np.mean(b) - np.mean(a), abs=1e-12)
        assert said.mean_size == pytest.approx(np.mean(np.abs(np.subtract(b, a))))
        assert abs(said.worst) == max(abs(y - x) for x, y in zip(a, b, strict=True))
        assert said.worst == other[said.worst_row] - one[said.worst_row]
        assert said.worst_row in chosen
        decided = [(x >= 0.5) != (y >= 0.5) for x, y in zip(a, b, strict=True)]
        assert said.decisions_differ == pytest.approx(np.mean(decided))
        if len(set(a)) > 1 and len(set(b)) > 1:
            expected = np.corrcoef(ranks(a), ranks(b))[0, 1]
            assert said.rank_correlation == pytest.approx(expected, abs=1e-9)
        else:
            assert said.rank_correlation is None


def test_without_a_threshold_nothing_is_decided() -> None:
    assert disagreements([1.0, 2.0], [2.0, 4.0])[0].decisions_differ is None


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [([], [], "no data"), ([0.1], [0.1, 0.2], "no data"), ([float("nan")], [0.1], "not finite")],
)
def test_rows_that_cannot_be_compared_are_told(
    one: list[float], other: list[float], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        disagreements(one, other)


def test_slices_of_other_rows_are_told() -> None:
    with pytest.raises(DataError, match="'shop' has the shape"):
        disagreements([0.1, 0.2], [0.1, 0.2], slices={"shop": ["a"]})
