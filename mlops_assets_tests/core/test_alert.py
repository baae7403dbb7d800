"""An alert says all that its reader needs, and comes back as it was."""

from datetime import UTC, datetime

import pytest

from mlops_assets.core.alert import Alert
from mlops_assets.core.estimate import Estimate
from mlops_assets.core.incident import Incident, Message, Reading, Subject
from mlops_assets.errors import DataError

SINCE = datetime(2026, 3, 1, tzinfo=UTC)
WORST = Reading(SINCE, "critical", "PSI is above 0.2", Estimate(0.31, 0.25, 0.37, 2_000))
SUBJECT = Subject("shop", "drift", "amount")
INCIDENT = Incident("shop/drift/amount/1", SUBJECT, SINCE, SINCE, "critical", SINCE, WORST)
ALERT = Alert.of(
    Message("opened", INCIDENT, WORST),
    where="country = at",
    plot="https://plots/1",
    command="mlops-assets drift shop amount",
)


def test_an_alert_says_what_since_when_how_bad_where_and_what_to_do() -> None:
    assert ALERT.title == "CRITICAL: shop/drift/amount"
    assert ALERT.body.splitlines() == [
        "Since: 2026-03-01 00:00 UTC",
        "How bad: 0.31 (95% interval 0.25 to 0.37, n = 2,000)",
        "Why: PSI is above 0.2",
        "Where: country = at",
        "Plot: https://plots/1",
        "Next: mlops-assets drift shop amount",
        "Incident: shop/drift/amount/1",
    ]


def test_what_is_not_known_is_left_out() -> None:
    body = Alert("k", "opened", "warning", "shop", SINCE).body
    assert body.splitlines() == ["Since: 2026-03-01 00:00 UTC", "Incident: k"]


def test_the_end_of_an_incident_is_told_as_such() -> None:
    over = Alert.of(Message("resolved", INCIDENT, Reading(SINCE, "fine", "fine again")))
    assert over.title == "RESOLVED: shop/drift/amount"
    assert "Why: fine again" in over.body


@pytest.mark.parametrize("alert", [ALERT, Alert("k", "opened", "warning", "shop", SINCE)])
def test_an_alert_comes_back_from_json_as_it_was(alert: Alert) -> None:
    assert Alert.of_text(alert.text) == alert


def test_a_text_that_is_no_alert_is_refused() -> None:
    with pytest.raises(DataError, match="no alert"):
        Alert.of_text('{"since": 1}')
