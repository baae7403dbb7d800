"""ModelSpec refuses at once all that can be refused without data."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mlops_assets.errors import DeclarationError, UnknownNameError
from mlops_assets.retraining_policy import RetrainingPolicy
from mlops_assets.serving_policy import RolloutPolicy, ServingPolicy
from mlops_assets.spec import (
    FoldPolicy,
    GatePolicy,
    Label,
    Metric,
    ModelSpec,
    Search,
    Slice,
    all_rows,
    all_sources,
    all_views,
)
from mlops_assets_tests.shop_world import (
    BASKET,
    boosting,
    recent_sales,
    returns,
    sales,
    service,
)


def test_the_default_thresholds_are_those_of_the_platform() -> None:
    policy = GatePolicy()
    assert (policy.ece_limit, policy.bin_limit, policy.coverage_tolerance) == (0.02, 0.05, 0.02)
    assert (policy.metric_margin, policy.bins, policy.binning) == (0, 15, "mass")


@pytest.mark.parametrize("margin", [2.5, {"mae": 2.5, "pinball": 0}])
def test_a_margin_is_in_the_unit_of_its_metric(margin: Any) -> None:
    assert GatePolicy(metric_margin=margin).metric_margin == margin


@pytest.mark.parametrize("margin", [-1, float("inf"), {"mae": -0.1}])
def test_a_margin_that_is_no_margin_is_refused(margin: Any) -> None:
    with pytest.raises(ValidationError):
        GatePolicy(metric_margin=margin)


@pytest.mark.parametrize("wrong", [{"ece_limit": 0}, {"bin_limit": 1}, {"bins": 1}, {"ece": 0.1}])
def test_a_threshold_without_meaning_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GatePolicy(**wrong)


def test_inputs_are_categories_then_features(tmp_path: Path) -> None:
    spec = returns(tmp_path, categories=("shop",))
    assert spec.inputs == ("shop", "amount_last", "amount_2d", "size_doubled")


def test_sources_are_named_once_each(tmp_path: Path) -> None:
    assert [source.name for source in returns(tmp_path).sources] == ["orders", "sales"]


@pytest.mark.parametrize("name", ["Returns", "my model", "2nd", "a-b", "", "a/b"])
def test_a_name_that_is_no_plain_word_is_refused(name: str, tmp_path: Path) -> None:
    spec = returns(tmp_path)
    with pytest.raises(DeclarationError, match="lower-case letters, digits and underscores"):
        ModelSpec(**{**dict(spec), "name": name})


@pytest.mark.parametrize(
    "change",
    [
        {"label": Label(column="return", known_at="known_at")},
        {"label": Label(column="returned", known_at="known")},
        {"categories": ("shopp",)},
    ],
)
def test_a_column_that_the_rows_lack_is_answered_with_the_nearest(
    change: Any, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean (returned|known_at|shop)"):
        returns(tmp_path, **change)


def test_rows_must_carry_the_entities_of_the_views(tmp_path: Path) -> None:
    view = recent_sales(sales(Path("sales.csv")))
    keyed = view.model_copy(
        update={"entities": (view.entities[0].model_copy(update={"name": "town"}),)}
    )
    with pytest.raises(UnknownNameError, match="unknown column of placed_orders 'town'"):
        returns(tmp_path, features=service(keyed))


def test_rows_must_carry_the_inputs_of_request_features(tmp_path: Path) -> None:
    asks = BASKET.inputs[0].model_copy(update={"name": "weight"})
    basket = BASKET.model_copy(update={"inputs": (asks,)})
    view = recent_sales(sales(Path("sales.csv")))
    with pytest.raises(UnknownNameError, match="unknown column of placed_orders 'weight'"):
        returns(tmp_path, features=service(view, request=(basket,)))


def test_two_models_share_their_tables(tmp_path: Path) -> None:
    spec = returns(tmp_path)
    both = (spec, spec.model_copy(update={"name": "again"}))
    found = [len(collect(both)) for collect in (all_views, all_sources, all_rows)]
    assert found == [1, 2, 1]


@pytest.mark.parametrize("collect", [all_views, all_sources, all_rows])
def test_two_tables_of_one_name_are_refused(collect: Any, tmp_path: Path) -> None:
    both = (returns(tmp_path), returns(tmp_path))
    with pytest.raises(DeclarationError, match="more than once"):
        collect(both)


@pytest.mark.parametrize("told", ["returned", "known_at"])
def test_a_model_that_is_told_its_label_is_refused(told: str, tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match=f"has {told} among its inputs"):
        returns(tmp_path, categories=(told,))


def test_a_model_without_estimators_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="has no estimators"):
        returns(tmp_path, estimators={})


@pytest.mark.parametrize(
    ("change", "near"),
    [
        ({"search": (Search(estimator="boost", parameters={"max_iter": (1,)}),)}, "boosting"),
        ({"slices": (Slice(name="town", column="shopp"),)}, "shop"),
        ({"slices": (Slice(name="amount_lst"),)}, "amount_last"),
    ],
)
def test_a_name_that_is_not_declared_is_answered_with_the_nearest(
    change: Any, near: str, tmp_path: Path
) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean {near}"):
        returns(tmp_path, **change)


def test_slices_may_be_cut_from_columns_of_the_rows_and_from_features(tmp_path: Path) -> None:
    slices = (Slice(name="shop"), Slice(name="money", column="amount_2d", edges=(1, 10)))
    assert [one.of for one in returns(tmp_path, slices=slices).slices] == ["shop", "amount_2d"]


def test_two_slices_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="more than once"):
        returns(tmp_path, slices=(Slice(name="shop"), Slice(name="shop", column="item")))


@pytest.mark.parametrize("edges", [(2, 1), (1, 1)])
def test_edges_that_do_not_ascend_are_refused(edges: tuple[float, ...]) -> None:
    with pytest.raises(DeclarationError, match="edges in ascending order"):
        Slice(name="size", edges=edges)


def test_folds_that_leave_nothing_to_learn_from_are_refused() -> None:
    with pytest.raises(DeclarationError, match="at least a fifth"):
        FoldPolicy(folds=9, share=0.1)


def searching(tmp_path: Path, **change: Any) -> ModelSpec:
    grid = {"max_iter": (3, 4), "learning_rate": (0.1, 0.2, 0.3)}
    search = Search(estimator="boosting", parameters=grid, **change)
    return returns(tmp_path, search=(search,))


def test_every_combination_of_searched_parameters_competes(tmp_path: Path) -> None:
    found = searching(tmp_path).competitors
    assert list(found)[:2] == ["boosting", "boosting max_iter=3, learning_rate=0.1"]
    assert len(found) == 1 + 6
    built = found["boosting max_iter=4, learning_rate=0.3"](5)
    assert (built.max_iter, built.learning_rate, built.random_state) == (4, 0.3, 5)
    assert found["boosting"](5).max_iter == boosting(5).max_iter


def test_a_search_keeps_to_its_budget_and_draws_the_same_every_time(tmp_path: Path) -> None:
    found = searching(tmp_path, budget=3).competitors
    assert len(found) == 1 + 3
    assert list(found) == list(searching(tmp_path, budget=3).competitors)


@pytest.mark.parametrize(
    ("policy", "found"),
    [
        ({"overrides": ("amount",)}, "unknown feature 'amount'"),
        ({"needed": ("nothing",)}, "unknown feature 'nothing'"),
        ({"hashed": ("nobody",)}, "unknown key or feature 'nobody'"),
        ({"defaults": {"amount_2d": "much"}}, "the default 'much'"),
    ],
)
def test_a_serving_policy_names_what_there_is(
    policy: dict[str, Any], found: str, tmp_path: Path
) -> None:
    with pytest.raises(DeclarationError, match=found):
        returns(tmp_path, serving=ServingPolicy(**policy))


def test_a_first_back_off_above_the_longest_is_refused() -> None:
    with pytest.raises(DeclarationError, match="a cap that is no less than the back-off"):
        RetrainingPolicy(back_off_days=10)


def test_a_rollout_ends_with_all_of_the_traffic() -> None:
    with pytest.raises(DeclarationError, match="ends at 50%"):
        RolloutPolicy(steps=(5, 50))


def test_a_metric_of_a_column_that_is_no_number_or_an_input_is_refused(tmp_path: Path) -> None:
    def with_metric(column: str) -> ModelSpec:
        return returns(tmp_path, metrics=(Metric(name="m", better="higher", column=column),))

    assert with_metric("size").metrics[0].column == "size"
    with pytest.raises(DeclarationError, match="the values of shop"):
        with_metric("shop")
    with pytest.raises(UnknownNameError):
        with_metric("nothing")
