"""The OpenAPI document is one, and requests made from it are never an error of the server."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets_tests.serving.running import Client

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*Any type hint is inferred as AnyType:UserWarning", "ignore::DeprecationWarning"
)


def test_requests_made_from_the_document_are_answered_as_it_says(client: Client) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="the test extra has it")
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

    document = schemathesis.openapi.from_url(f"http://127.0.0.1:{client.port}/openapi.json")
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) > 10
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    cases = st.one_of([operation.as_strategy() for operation in operations])

    @settings(max_examples=150, suppress_health_check=list(HealthCheck), database=None)
    @given(case=cases)
    def asked(case: object) -> None:
        case.call_and_validate(checks=checks)  # type: ignore[attr-defined]

    asked()
