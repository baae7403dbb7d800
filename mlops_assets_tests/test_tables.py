"""Declarations of tables refuse what cannot be right, before any data are read."""

from functools import partial
from pathlib import Path

import pytest
from pydantic import ValidationError

from mlops_assets.errors import DeclarationError, UnknownNameError
from mlops_assets.tables import Column, FeatureService, FeatureView, RequestFeatures
from mlops_assets_tests.shop_world import (
    BASKET,
    doubled,
    order_rows,
    orders,
    recent_sales,
    sales,
    service,
)


@pytest.fixture
def view() -> FeatureView:
    return recent_sales(sales(Path("sales.csv")))


def names(columns: tuple[Column, ...]) -> list[str]:
    return [column.name for column in columns]


def test_a_declaration_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        BASKET.name = "another"


def test_a_field_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        Column(name="a", type="int", nullabel=False)


def test_a_view_has_its_keys_and_times_before_its_features(view: FeatureView) -> None:
    times = ["event_timestamp", "created_timestamp"]
    assert names(view.columns) == ["shop", "item", *times, "amount_last", "amount_2d"]
    assert not any(column.nullable for column in view.columns[:4])


def test_a_service_offers_stored_features_before_request_features(view: FeatureView) -> None:
    assert names(service(view).features) == ["amount_last", "amount_2d", "size_doubled"]


def test_a_service_leaves_out_what_it_is_told_to(view: FeatureView) -> None:
    assert names(service(view, without=("amount_2d",)).features) == ["amount_last", "size_doubled"]


def test_leaving_out_an_unknown_feature_is_answered_with_the_nearest(view: FeatureView) -> None:
    with pytest.raises(UnknownNameError, match="did you mean amount_2d"):
        service(view, without=("amount_2",))


def test_two_features_of_one_name_are_refused(view: FeatureView) -> None:
    again = view.model_copy(update={"name": "again"})
    with pytest.raises(DeclarationError, match="feature amount_2d, amount_last more than once"):
        FeatureService(name="twice", description="", views=(view, again))


@pytest.mark.parametrize("compute", [lambda frame: frame, partial(doubled)])
def test_request_features_need_a_function_that_can_be_imported(compute) -> None:
    kept = BASKET.model_dump(include={"name", "description"})
    with pytest.raises(DeclarationError, match="move the function to module level"):
        RequestFeatures(**kept, inputs=BASKET.inputs, features=BASKET.features, compute=compute)


def test_a_column_of_entity_rows_is_found_by_name() -> None:
    assert order_rows(orders(Path("orders.csv"))).column("returned").type == "int"


def test_an_unknown_column_of_entity_rows_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean returned"):
        order_rows(orders(Path("orders.csv"))).column("return")
