"""Boosted trees on rows of plain values, as scikit-learn computes them, to the last bit.

A scikit-learn pipeline spends milliseconds on one row: it makes frames, checks them, and calls
every tree by itself. Here all trees of a histogram gradient boosting become one tree, whose first
levels branch by the number of the tree, and scikit-learn's own compiled function walks it once.

It reads private attributes of scikit-learn. So nobody may use it before it was compared with the
estimator itself; that is done in `quick`, which also knows what lies around the trees.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rows = Sequence[Sequence[Any]]
"""Rows of plain values in the order of the model's inputs: texts, numbers, None."""


class Unsupported(Exception):  # noqa: N818
    """An estimator that is built otherwise; it is used as it is."""


class Picked(NamedTuple):
    """Where a number of the trees comes from: a column, and maybe the codes of its values."""

    column: int
    codes: Mapping[Any, float] | None
    unknown: float


class QuickTrees:
    """A fitted histogram gradient boosting, alone or behind a column transformer.

    Args:
        estimator: the boosting, or a pipeline of a column transformer and the boosting.
        columns: the inputs in the order in which rows have them.

    Raises:
        Unsupported: an estimator that is built otherwise.
    """

    def __init__(self, estimator: Any, columns: Sequence[str]) -> None:
        boosting, transformers = _parts(estimator)
        picked = [Picked(at, None, np.nan) for at in range(len(columns))]
        names: Sequence[str] = columns
        for transformer in transformers:
            picked = _through(transformer, picked, list(names))
            names = [str(at) for at in range(len(picked))]
        if boosting.n_trees_per_iteration_ != 1:
            raise Unsupported
        self.boosting, self._picked = boosting, picked
        self._baseline = boosting._baseline_prediction.ravel()[0]
        self._merge([iteration[0] for iteration in boosting._predictors])

    def raw(self, rows: Rows) -> Floats:
        """Sums of the trees, before any link: shape (n,)."""
        from sklearn.ensemble._hist_gradient_boosting._predictor import _predict_from_raw_data

        plain = [
            [
                row[at] if codes is None else codes.get(row[at], other)
                for at, codes, other in self._picked
            ]
            for row in rows
        ]
        count, width = self._trees, len(self._picked)
        table = np.empty((len(rows), count, width + 1))
        table[:, :, :width] = np.array(plain, dtype=np.float64)[:, None, :]
        table[:, :, width] = self._numbers
        leaves = np.empty((len(rows), count + 1))
        found = np.empty(len(rows) * count)
        _predict_from_raw_data(
            self._nodes,
            table.reshape(-1, width + 1),
            self._left,
            self._known,
            self._places,
            1,
            found,
        )
        leaves[:, 0] = self._baseline
        leaves[:, 1:] = found.reshape(len(rows), count)
        # One after the other, as the estimator adds them: a pairwise sum differs in the last bit.
        return np.add.accumulate(leaves, axis=1)[:, -1]

    def knots(self) -> list[list[Any]]:
        """For each column of the rows, values at which an answer may change."""
        nodes = self._nodes[self._nodes["is_leaf"] == 0]
        found: list[list[Any]] = [[None] for _ in range(1 + max(p.column for p in self._picked))]
        for at, one in enumerate(self._picked):
            if one.codes is not None:
                found[one.column] += [*one.codes, "no such value"]
                continue
            edges = nodes["num_threshold"][
                (nodes["feature_idx"] == at) & (nodes["is_categorical"] == 0)
            ]
            some = np.unique(edges)[:: max(1, len(edges) // 50)]
            found[one.column] += [*some.tolist(), *np.nextafter(some, np.inf).tolist(), 0.0, 1e300]
        return found

    def _merge(self, trees: Sequence[Any]) -> None:
        known, places = self.boosting._bin_mapper.make_known_categories_bitsets()
        width, count = len(self._picked), len(trees)
        top: list[tuple[float, int, int]] = []  # branches by number: threshold, left, right
        sizes = [0, *(len(tree.nodes) for tree in trees)]
        starts = (np.cumsum(sizes) + count - 1).astype(np.uint32)

        def branch(first: int, stop: int) -> int:
            if stop - first == 1:
                return int(starts[first])
            middle, at = (first + stop) // 2, len(top)
            top.append((0.0, 0, 0))
            top[at] = (middle - 0.5, branch(first, middle), branch(middle, stop))
            return at

        branch(0, count)
        nodes = np.zeros(int(starts[-1]), dtype=trees[0].nodes.dtype)
        for at, (threshold, left, right) in enumerate(top):
            nodes[at]["num_threshold"], nodes[at]["feature_idx"] = threshold, width
            nodes[at]["left"], nodes[at]["right"] = left, right
        sets = 0
        for tree, start in zip(trees, starts, strict=False):
            own = nodes[start : start + len(tree.nodes)]
            own[:] = tree.nodes
            own["left"] += start
            own["right"] += start
            own["bitset_idx"] += np.uint32(sets)
            sets += len(tree.raw_left_cat_bitsets)
        self._nodes, self._trees = nodes, count
        self._left = np.concatenate([tree.raw_left_cat_bitsets for tree in trees])
        self._known, self._places = known, np.append(places, np.uint32(0)).astype(np.uint32)
        self._numbers = np.arange(count, dtype=np.float64)


def _parts(estimator: Any) -> tuple[Any, list[Any]]:
    """The boosting, and the column transformers before it, in order."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.pipeline import Pipeline

    steps = (
        [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    )
    boosting = steps[-1]
    if not isinstance(boosting, (HistGradientBoostingClassifier, HistGradientBoostingRegressor)):
        raise Unsupported
    own = [boosting._preprocessor] if boosting._preprocessor is not None else []
    return boosting, [*steps[:-1], *own]


def _through(transformer: Any, given: Sequence[Picked], names: list[str]) -> list[Picked]:
    """What comes out of a column transformer that numbers categories and passes all else on."""
    from sklearn.compose import ColumnTransformer
    from sklearn.preprocessing import FunctionTransformer, OrdinalEncoder

    if not isinstance(transformer, ColumnTransformer):
        raise Unsupported
    found: list[Picked] = []
    for _, step, columns in transformer.transformers_:
        places = _places(columns, names)
        if isinstance(step, OrdinalEncoder):
            found += [_encoded(step, at, given[place]) for at, place in enumerate(places)]
        elif isinstance(step, FunctionTransformer) or step == "passthrough":
            found += [given[place] for place in places]
        elif step != "drop":
            raise Unsupported
    return found


def _places(columns: Any, names: list[str]) -> list[int]:
    if isinstance(columns, slice):
        return list(range(len(names)))[columns]
    chosen = np.asarray(columns)
    if chosen.dtype == bool:
        return [int(place) for place in np.flatnonzero(chosen)]
    return [names.index(one) if isinstance(one, str) else int(one) for one in chosen.tolist()]


def _encoded(encoder: Any, at: int, given: Picked) -> Picked:
    if encoder.handle_unknown != "use_encoded_value":
        raise Unsupported
    unknown = float(encoder.unknown_value)
    codes: dict[Any, float] = {}
    for number, value in enumerate(encoder.categories_[at].tolist()):
        missing = value is None or value != value
        codes[None if missing else value] = (
            float(encoder.encoded_missing_value) if missing else float(number)
        )
    if given.codes is None:
        return Picked(given.column, codes, unknown)
    # A code of a code: looked up once, here.
    both = {
        value: codes.get(None if code != code else code, unknown)
        for value, code in given.codes.items()
    }
    return Picked(given.column, both, codes.get(given.unknown, unknown))
