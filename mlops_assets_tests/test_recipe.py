"""The recipe of a training, and what stands in its way, known before it starts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import SourceError, WindowError
from mlops_assets.platform import Platform
from mlops_assets.recipe import label_counts, recipe, refuse_unusable, source_marks
from mlops_assets.settings import Settings
from mlops_assets.spec import FoldPolicy, GatePolicy, ModelSpec, Search, Slice
from mlops_assets.windows import Window, Windows
from mlops_assets_tests.shop_world import ORDERS_CSV, SALES_CSV, boosting, day, returns, windows

MARKS = {"orders": "1", "sales": "1"}


@pytest.fixture
def platform() -> Platform:
    return Platform(Settings())


@pytest.fixture
def spec(tmp_path: Path) -> ModelSpec:
    """Each window is a day with one order that is kept and one that is returned."""
    return returns(tmp_path)


def patient(seed: int) -> Any:
    return boosting(seed).set_params(max_iter=6)


def of(spec: ModelSpec, marks: dict[str, str] = MARKS, digest: str = "d", **change: Any) -> str:
    return recipe(spec.model_copy(update=change), spec.windows, marks, digest)


def test_the_recipe_of_the_same_declaration_is_the_same(spec: ModelSpec, tmp_path: Path) -> None:
    assert of(spec) == of(returns(tmp_path))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"seed": 1},
        {"estimators": {"boosting": patient}},
        {"search": (Search(estimator="boosting", parameters={"max_iter": (6,)}),)},
        {"folds": FoldPolicy(folds=4)},
        {"calibrations": ("isotonic",)},
        {"slices": (Slice(name="shop"),)},
        {"confidence": 0.8},
        {"threshold": 0.4},
        {"categories": ("shop",)},
        {"gates": GatePolicy(ece_limit=0.03)},
        {"marks": {**MARKS, "orders": "2"}},
        {"marks": {**MARKS, "sales": "2"}},
        {"digest": "e"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_recipe_changes_with_all_that_decides_the_result(change: Any, spec: ModelSpec) -> None:
    assert of(spec, **change) != of(spec)


def selecting(pattern: str) -> Any:
    def build(seed: int) -> Any:
        from sklearn.compose import ColumnTransformer, make_column_selector
        from sklearn.pipeline import Pipeline

        columns = ColumnTransformer([("all", "passthrough", make_column_selector(pattern))])
        return Pipeline([("columns", columns), ("boosting", boosting(seed))])

    return build


def test_the_recipe_does_not_change_with_where_objects_lie_in_memory(spec: ModelSpec) -> None:
    one, other = ({"boosting": selecting("a")} for _ in range(2))
    assert of(spec, estimators=one) == of(spec, estimators=other)
    assert of(spec, estimators=one) != of(spec, estimators={"boosting": selecting("b")})


def test_the_recipe_changes_with_the_windows(spec: ModelSpec) -> None:
    longer = spec.windows.model_copy(update={"train": Window(start=day(1), end=day(2), days="odd")})
    assert recipe(spec, longer, MARKS, "d") != of(spec)


@pytest.mark.parametrize("change", [{"description": "other words"}, {"owners": ("team:b",)}])
def test_the_recipe_does_not_change_with_words(change: Any, spec: ModelSpec) -> None:
    assert of(spec, **change) == of(spec)


def test_marks_change_with_the_files_of_the_sources(
    platform: Platform, spec: ModelSpec, tmp_path: Path
) -> None:
    before = source_marks(platform, spec.sources)
    (tmp_path / "orders.csv").write_text(ORDERS_CSV.replace("o8,a,pot,8", "o8,a,pot,9"))
    after = source_marks(platform, spec.sources)
    assert before["sales"] == after["sales"]
    assert before["orders"] != after["orders"]


def test_marks_of_sources_are_those_that_their_raw_tables_will_have(
    platform: Platform, spec: ModelSpec, tmp_path: Path
) -> None:
    for source in spec.sources:
        engine.write_source(platform.lake, source)
    (tmp_path / "sales.csv").write_text(SALES_CSV + "a,pot,2024-01-03T10:00:00Z,7.5\n")
    foreseen = source_marks(platform, spec.sources)
    written = {s.name: engine.write_source(platform.lake, s)[1] for s in spec.sources}
    assert foreseen == written == source_marks(platform, spec.sources)
    assert set(written["sales"].days or {}) == {f"2024-01-0{number}" for number in range(1, 5)}
    assert written["orders"].days is None


def test_the_days_of_a_source_that_cannot_be_read_are_refused(
    platform: Platform, spec: ModelSpec, tmp_path: Path
) -> None:
    for source in spec.sources:
        engine.write_source(platform.lake, source)
    (tmp_path / "sales.csv").write_text(SALES_CSV.replace("40", "forty"))
    with pytest.raises(SourceError, match="the source 'sales' cannot be read"):
        source_marks(platform, spec.sources)


def test_rows_and_labels_are_counted_by_window(platform: Platform, spec: ModelSpec) -> None:
    found = refuse_unusable(platform, spec, spec.windows)
    counts = {name: (count.rows, count.mean) for name, count in found.items()}
    assert counts == dict.fromkeys(["train", "calibrate", "conformalize", "holdout"], (2, 0.5))


def test_counting_leaves_nothing_in_the_lake(platform: Platform, spec: ModelSpec) -> None:
    refuse_unusable(platform, spec, spec.windows)
    source_marks(platform, spec.sources)
    assert list(platform.lake.root.iterdir()) == []


def test_a_label_of_one_class_is_refused(
    platform: Platform, spec: ModelSpec, tmp_path: Path
) -> None:
    (tmp_path / "orders.csv").write_text(ORDERS_CSV.replace(",1,2024", ",0,2024"))
    with pytest.raises(WindowError, match="is 0 in all 2 rows of the window 'train'"):
        refuse_unusable(platform, spec, spec.windows)


def test_a_window_without_rows_is_refused(platform: Platform, spec: ModelSpec) -> None:
    empty = windows().model_copy(update={"holdout": Window(start=day(10), end=day(11))})
    with pytest.raises(WindowError, match=r"'holdout' of 'returns' .* has no rows"):
        refuse_unusable(platform, spec, empty)


def test_the_window_to_predict_may_be_empty(platform: Platform, spec: ModelSpec) -> None:
    assert "predict" not in refuse_unusable(platform, spec, spec.windows)


@pytest.mark.parametrize("name", ["orders.csv", "sales.csv"])
def test_a_source_that_is_missing_is_refused(
    name: str, platform: Platform, spec: ModelSpec, tmp_path: Path
) -> None:
    (tmp_path / name).unlink()
    with pytest.raises(SourceError, match="has no file at"):
        source_marks(platform, spec.sources)


def test_a_value_that_cannot_be_cast_is_refused(
    platform: Platform, spec: ModelSpec, tmp_path: Path
) -> None:
    (tmp_path / "orders.csv").write_text(ORDERS_CSV.replace("o5,a,tea,5", "o5,a,tea,five"))
    with pytest.raises(SourceError, match="the source 'orders' cannot be read"):
        refuse_unusable(platform, spec, spec.windows)


def test_a_row_whose_label_is_not_known_yet_is_not_counted(
    platform: Platform, spec: ModelSpec, tmp_path: Path
) -> None:
    unknown = "o9,a,tea,9,2024-01-01T14:00:00Z,NA,NA\n"
    (tmp_path / "orders.csv").write_text(ORDERS_CSV + unknown)
    found = refuse_unusable(platform, spec, spec.windows)
    assert (found["train"].rows, found["purged"].rows) == (2, 1)


def test_labels_are_counted_like_the_rows_of_a_training_set() -> None:
    times = np.array(["2024-01-01T23", "2024-01-01", "2024-01-04"], dtype="M8[ns]")
    known = times + np.timedelta64(2, "h")
    found = label_counts(times, known, np.array([1.0, 0, 1]), windows())
    counts = {name: (summary.rows, summary.mean) for name, summary in found.items()}
    assert counts == {"train": (1, 0), "purged": (1, 1), "holdout": (1, 1)}


def test_a_row_that_never_gets_a_label_is_counted_apart() -> None:
    times = np.array(["2024-01-01", "2024-01-01", "2024-01-04", "2024-01-04"], dtype="M8[ns]")
    known = times + np.timedelta64(2, "h")
    found = label_counts(times, known, np.array([1, np.nan, np.nan, 3]), windows())
    assert {name: summary.rows for name, summary in found.items()} == {
        "train": 1,
        "unlabelled": 2,
        "holdout": 1,
    }


def test_a_holdout_month_can_be_refused_without_reading_features(
    platform: Platform, spec: ModelSpec
) -> None:
    later = Windows.monthly(day(1), "2024-06")
    with pytest.raises(WindowError, match=r"'calibrate' of 'returns' .* has no rows"):
        refuse_unusable(platform, spec, later)
