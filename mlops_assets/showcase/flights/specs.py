"""The models of the flights showcase, and the rows that they predict."""

import datetime as dt
from typing import Any

from mlops_assets.showcase.flights.estimators import (
    CATEGORIES,
    gradient_boosting,
    gradient_boosting_of_minutes,
    logistic_regression,
    random_forest,
    ridge,
)
from mlops_assets.showcase.flights.features import FLIGHT_FEATURES, flights_in_utc
from mlops_assets.showcase.flights.source import AIRPORTS, FLIGHTS
from mlops_assets.spec import FoldPolicy, Label, Metric, ModelSpec, Slice
from mlops_assets.tables import Column, EntityRows, Tables
from mlops_assets.windows import Windows

TRAIN_START = dt.date(2013, 1, 1)

LEAD_HOURS = 2


def scheduled_flights(tables: Tables) -> Any:
    """One row per scheduled flight, at the time of prediction: two hours before departure."""
    import ibis

    flights = flights_in_utc(tables)
    return flights.select(
        "flight_id",
        "carrier",
        "origin",
        "dest",
        "tailnum",
        "scheduled_departure_minute",
        "distance",
        scheduled_weekday=flights.weekday,
        event_timestamp=flights.scheduled_departure - ibis.interval(hours=LEAD_HOURS),
        arrives_late=flights.late.cast("int64"),
        arrival_delay_minutes=flights.arrival_delay,
        outcome_known_at=flights.known_at,
    )


SCHEDULED_FLIGHTS = EntityRows(
    name="scheduled_flights",
    description="Every scheduled flight, two hours before departure, with its outcome.",
    row_id="flight_id",
    sources=(FLIGHTS, AIRPORTS),
    columns=(
        Column(name="flight_id", type="string", nullable=False),
        Column(name="carrier", type="string", nullable=False),
        Column(name="origin", type="string", nullable=False),
        Column(name="dest", type="string", nullable=False),
        Column(name="tailnum", type="string"),
        Column(name="scheduled_departure_minute", type="int", nullable=False),
        Column(name="distance", type="float", nullable=False),
        Column(name="scheduled_weekday", type="int", nullable=False),
        Column(name="event_timestamp", type="time", nullable=False),
        Column(name="arrives_late", type="int", nullable=False, minimum=0, maximum=1),
        Column(name="arrival_delay_minutes", type="float", minimum=-180, maximum=2880),
        Column(name="outcome_known_at", type="time", nullable=False),
    ),
    build=scheduled_flights,
)


SLICES = (
    Slice(name="carrier"),
    Slice(name="origin"),
    Slice(name="hour", column="departure_hour", edges=(9, 12, 15, 18)),
)
# Four months of flights: on fewer, models that need much data lose for no fault of theirs.
FOLDS = FoldPolicy(most_rows=120_000)
METRICS = (
    Metric(name="minutes_lost", better="lower", unit="minutes", column="arrival_delay_minutes"),
)
WINDOWS = Windows.monthly(TRAIN_START, holdout="2013-11")
OWNERS = ("team:flight-operations",)

FLIGHT_DELAY = ModelSpec(
    name="flight_delay",
    description="Two hours before departure: will the flight arrive 15 minutes late or more, "
    "be cancelled or diverted?",
    rows=SCHEDULED_FLIGHTS,
    label=Label(column="arrives_late", known_at="outcome_known_at"),
    features=FLIGHT_FEATURES,
    categories=CATEGORIES,
    estimators={
        "logistic_regression": logistic_regression,
        "gradient_boosting": gradient_boosting,
        "random_forest": random_forest,
    },
    folds=FOLDS,
    slices=SLICES,
    metrics=METRICS,
    windows=WINDOWS,
    owners=OWNERS,
)

ARRIVAL_DELAY = ModelSpec(
    name="arrival_delay",
    description="Two hours before departure: how many minutes late will the flight arrive, if it "
    "arrives?",
    task="regression",
    rows=SCHEDULED_FLIGHTS,
    label=Label(column="arrival_delay_minutes", known_at="outcome_known_at"),
    features=FLIGHT_FEATURES,
    categories=CATEGORIES,
    estimators={"ridge": ridge, "gradient_boosting": gradient_boosting_of_minutes},
    unit="minutes",
    folds=FOLDS,
    slices=SLICES,
    metrics=METRICS,
    windows=WINDOWS,
    owners=OWNERS,
)

SPECS = (FLIGHT_DELAY, ARRIVAL_DELAY)
"""The models of the showcase."""
