"""Features of the flights showcase: each view is written once, as an Ibis expression.

A flight's outcome is an event with a time at which it is known: a departure when the aircraft
leaves, an arrival when it lands, a cancellation at the scheduled departure at the latest. Features
look back over such events only, so a feature row never holds what was not known at its time.
"""

import datetime as dt
from typing import Any

from mlops_assets.showcase.flights.source import AIRPORTS, CALENDAR, FLIGHTS, PLANES, WEATHER
from mlops_assets.tables import (
    Arrays,
    Column,
    Entity,
    FeatureService,
    FeatureView,
    RequestFeatures,
    Tables,
)

ATLANTIC_TIME = -240
"""Minutes to UTC of the destinations that the airports table lacks: Puerto Rico, Virgin Islands."""

LATE_MINUTES = 15
HOUR = dt.timedelta(hours=1)
DAY = dt.timedelta(days=1)

ORIGIN = Entity(name="origin", description="airport of departure")
DEST = Entity(name="dest", description="airport of arrival")
CARRIER = Entity(name="carrier", description="two-letter code of the airline")
TAILNUM = Entity(name="tailnum", description="registration of the aircraft")


def flights_in_utc(tables: Tables) -> Any:
    """Flights with scheduled arrival in UTC, lateness, and the times at which outcomes are known.

    Columns added: `scheduled_arrival`, `departed_at` (null when cancelled), `landed_at` (null when
    cancelled or diverted), `late` (1.0 when 15 minutes late or more, cancelled or diverted),
    `known_at`.
    """
    import ibis

    flights, airports = tables["flights"], tables["airports"]
    offsets = airports.select(dest_faa="faa", winter="winter_offset", summer="summer_offset")
    joined = flights.left_join(offsets, flights.dest == offsets.dest_faa)
    offset = ibis.ifelse(joined.utc_offset == -240, joined.summer, joined.winter)
    local = joined.scheduled_arrival_minute - joined.scheduled_departure_minute
    minutes = local + joined.utc_offset - offset.fill_null(ATLANTIC_TIME)
    # Modulo one day: the arrival may be on the next local day, and no flight takes 24 hours.
    block = (minutes + 1440) % 1440
    scheduled_arrival = joined.scheduled_departure + block.as_interval("m")
    departed = joined.scheduled_departure + joined.departure_delay.cast("int64").as_interval("m")
    landed = scheduled_arrival + joined.arrival_delay.cast("int64").as_interval("m")
    # A diversion is certain when the flight is six hours overdue.
    overdue = scheduled_arrival + ibis.interval(hours=6)
    known = ibis.cases(
        (joined.cancelled, joined.scheduled_departure), (joined.diverted, overdue), else_=landed
    )
    late = (joined.arrival_delay >= LATE_MINUTES).fill_null(True)
    return joined.mutate(
        scheduled_arrival=scheduled_arrival,
        departed_at=departed,
        landed_at=landed,
        late=late.cast("float64"),
        known_at=known,
    ).drop("dest_faa", "winter", "summer")


def _over(hours: int, *keys: str) -> Any:
    """The window of the last `hours` per key, the event itself and its ties included."""
    import ibis

    return ibis.range_window(
        group_by=list(keys),
        order_by="event_timestamp",
        preceding=ibis.interval(hours=hours),
        following=ibis.interval(hours=0),
    )


def _rows(events: Any, *keys: str, **features: Any) -> Any:
    """Select keys, times and features; one row for events of one key at one time."""
    rows = events.select(
        *keys, "event_timestamp", created_timestamp=events.event_timestamp, **features
    )
    return rows.distinct(on=[*keys, "event_timestamp"])


def origin_congestion(tables: Tables) -> Any:
    """Departures and cancellations at an airport of the last 3 hours, day and week."""
    flights = flights_in_utc(tables)
    departed = flights.mutate(event_timestamp=flights.departed_at.coalesce(flights.known_at))
    events = departed.mutate(
        delayed=(departed.departure_delay >= LATE_MINUTES).fill_null(False).cast("float64"),
        dropped=departed.cancelled.cast("float64"),
    )
    short, day, week = (_over(hours, "origin") for hours in (3, 24, 168))
    return _rows(
        events,
        "origin",
        departures_3h=events.departure_delay.count().over(short).cast("float64"),
        delay_mean_3h=events.departure_delay.mean().over(short),
        delay_max_3h=events.departure_delay.max().over(short),
        delayed_share_3h=events.delayed.mean().over(short),
        cancelled_share_3h=events.dropped.mean().over(short),
        delay_mean_24h=events.departure_delay.mean().over(day),
        delayed_share_24h=events.delayed.mean().over(day),
        cancelled_share_24h=events.dropped.mean().over(day),
        delayed_share_7d=events.delayed.mean().over(week),
        cancelled_share_7d=events.dropped.mean().over(week),
    )


def _outcomes(tables: Tables) -> Any:
    """One event per flight, at the time at which its outcome is known."""
    flights = flights_in_utc(tables)
    return flights.mutate(event_timestamp=flights.known_at)


def carrier_punctuality(tables: Tables) -> Any:
    """How late an airline's flights were over the last day and four weeks."""
    events = _outcomes(tables)
    day, month = _over(24, "carrier"), _over(24 * 28, "carrier")
    return _rows(
        events,
        "carrier",
        carrier_flights_24h=events.count().over(day).cast("float64"),
        carrier_delay_mean_24h=events.arrival_delay.mean().over(day),
        carrier_late_share_24h=events.late.mean().over(day),
        carrier_delay_mean_28d=events.arrival_delay.mean().over(month),
        carrier_late_share_28d=events.late.mean().over(month),
    )


def route_punctuality(tables: Tables) -> Any:
    """How late the flights of a route were over the last four weeks."""
    import ibis

    events = _outcomes(tables)
    events = events.mutate(squared=events.arrival_delay * events.arrival_delay)
    month = _over(24 * 28, "origin", "dest")
    mean = events.arrival_delay.mean().over(month)
    # Delays are whole minutes, so these sums are exact whatever the order of tied rows; a running
    # standard deviation would differ in its last bits from run to run.
    variance = events.squared.mean().over(month) - mean * mean
    return _rows(
        events,
        "origin",
        "dest",
        route_flights_28d=events.count().over(month).cast("float64"),
        route_delay_mean_28d=mean,
        route_delay_std_28d=ibis.greatest(variance, 0.0).sqrt(),
        route_late_share_28d=events.late.mean().over(month),
    )


def aircraft_history(tables: Tables) -> Any:
    """The last known arrival delay of an aircraft, its last four weeks, its age and size."""
    events = _outcomes(tables)
    events = events.filter(events.tailnum.notnull())
    planes = tables["planes"].select("tailnum", "built", "seats")
    events = events.left_join(planes, "tailnum").drop("tailnum_right")
    month = _over(24 * 28, "tailnum")
    return _rows(
        events,
        "tailnum",
        aircraft_last_delay=events.arrival_delay.mean().over(_over(0, "tailnum")),
        aircraft_flights_28d=events.count().over(month).cast("float64"),
        aircraft_delay_mean_28d=events.arrival_delay.mean().over(month),
        aircraft_late_share_28d=events.late.mean().over(month),
        aircraft_built=events.built.cast("float64"),
        aircraft_seats=events.seats.cast("float64"),
    )


def hourly_weather(tables: Tables) -> Any:
    """Weather at an airport. The record of an hour holds what was seen until the hour's end."""
    import ibis

    weather = tables["weather"]
    return weather.select(
        "origin",
        event_timestamp=weather.observed_hour,
        created_timestamp=weather.observed_hour + ibis.interval(hours=1),
        temperature=weather.temperature,
        dew_point_gap=weather.temperature - weather.dew_point,
        humidity=weather.humidity,
        wind_speed=weather.wind_speed,
        wind_gust=weather.wind_gust.coalesce(weather.wind_speed),
        precipitation=weather.precipitation,
        pressure=weather.pressure,
        visibility=weather.visibility,
    )


def departure_time(given: Arrays) -> Arrays:
    """Hour and weekday of the scheduled departure, and the distance."""
    minute = given["scheduled_departure_minute"]
    return {
        "departure_hour": minute // 60,
        "departure_minute_of_day": minute,
        "departure_weekday": given["scheduled_weekday"],
        "flight_distance": given["distance"],
    }


def _number(
    name: str, description: str = "", low: float | None = None, high: float | None = None
) -> Column:
    return Column(name=name, type="float", description=description, minimum=low, maximum=high)


def _share(name: str, description: str = "") -> Column:
    return _number(name, description, 0.0, 1.0)


ORIGIN_CONGESTION = FeatureView(
    name="origin_congestion",
    description="Departure delays and cancellations at an airport over 3 hours, a day, a week.",
    entities=(ORIGIN,),
    features=(
        _number("departures_3h", "flights that left in the last 3 hours", 0),
        _number("delay_mean_3h", "mean departure delay, minutes", -120, 2880),
        _number("delay_max_3h", "largest departure delay, minutes", -120, 2880),
        _share("delayed_share_3h", "share that left 15 minutes late or more"),
        _share("cancelled_share_3h"),
        _number("delay_mean_24h", "mean departure delay, minutes", -120, 2880),
        _share("delayed_share_24h"),
        _share("cancelled_share_24h"),
        _share("delayed_share_7d"),
        _share("cancelled_share_7d"),
    ),
    ttl=DAY,
    calendar=CALENDAR,
    sources=(FLIGHTS, AIRPORTS),
    lookback=9 * DAY,
    build=origin_congestion,
)

CARRIER_PUNCTUALITY = FeatureView(
    name="carrier_punctuality",
    description="Arrival delays of an airline over a day and four weeks.",
    entities=(CARRIER,),
    features=(
        _number("carrier_flights_24h", "flights with known outcome", 0),
        _number("carrier_delay_mean_24h", "mean arrival delay, minutes", -180, 2880),
        _share("carrier_late_share_24h", "share late, cancelled or diverted"),
        _number("carrier_delay_mean_28d", "mean arrival delay, minutes", -180, 2880),
        _share("carrier_late_share_28d", "share late, cancelled or diverted"),
    ),
    ttl=3 * DAY,
    calendar=CALENDAR,
    sources=(FLIGHTS, AIRPORTS),
    lookback=31 * DAY,
    build=carrier_punctuality,
)

ROUTE_PUNCTUALITY = FeatureView(
    name="route_punctuality",
    description="Arrival delays of a route over four weeks.",
    entities=(ORIGIN, DEST),
    features=(
        _number("route_flights_28d", "flights with known outcome", 0),
        _number("route_delay_mean_28d", "mean arrival delay, minutes", -180, 2880),
        _number("route_delay_std_28d", "standard deviation, minutes", 0),
        _share("route_late_share_28d", "share late, cancelled or diverted"),
    ),
    ttl=28 * DAY,
    calendar=CALENDAR,
    sources=(FLIGHTS, AIRPORTS),
    lookback=31 * DAY,
    build=route_punctuality,
)

AIRCRAFT_HISTORY = FeatureView(
    name="aircraft_history",
    description="The last arrival delay of an aircraft, its last four weeks, its age and size.",
    entities=(TAILNUM,),
    features=(
        _number("aircraft_last_delay", "arrival delay of the last flight, minutes", -180, 2880),
        _number("aircraft_flights_28d", "flights with known outcome", 0),
        _number("aircraft_delay_mean_28d", "mean arrival delay, minutes", -180, 2880),
        _share("aircraft_late_share_28d", "share late, cancelled or diverted"),
        _number("aircraft_built", "year; null where the register does not know it", 1900, 2013),
        _number("aircraft_seats", "null where the register does not know it", 1, 900),
    ),
    ttl=28 * DAY,
    calendar=CALENDAR,
    sources=(FLIGHTS, AIRPORTS, PLANES),
    lookback=31 * DAY,
    build=aircraft_history,
)

HOURLY_WEATHER = FeatureView(
    name="hourly_weather",
    description="Weather at an airport by hour, known when the hour is over.",
    entities=(ORIGIN,),
    features=(
        _number("temperature", "°F", -60, 130),
        _number("dew_point_gap", "temperature minus dew point, °F; small means fog", -5, 130),
        _number("humidity", "percent", 0, 100),
        _number("wind_speed", "mph", 0, 1100),
        _number("wind_gust", "mph", 0, 1100),
        _number("precipitation", "inches in the hour", 0, 20),
        _number("pressure", "hPa", 900, 1100),
        _number("visibility", "miles", 0, 100),
    ),
    ttl=12 * HOUR,
    calendar=CALENDAR,
    # The package's weather ends with 30 December, two days before its flights do.
    events_end=dt.date(2013, 12, 31),
    sources=(WEATHER,),
    lookback=0 * DAY,
    build=hourly_weather,
)

DEPARTURE_TIME = RequestFeatures(
    name="departure_time",
    description="When and how far the flight is scheduled to go.",
    inputs=(
        Column(name="scheduled_departure_minute", type="int", nullable=False),
        Column(name="scheduled_weekday", type="int", nullable=False),
        Column(name="distance", type="float", nullable=False),
    ),
    features=(
        _number("departure_hour", "local hour", 0, 24),
        _number("departure_minute_of_day", "local minute of the day", 0, 1440),
        _number("departure_weekday", "1 is Monday", 1, 7),
        _number("flight_distance", "miles", 1, 6000),
    ),
    compute=departure_time,
)

FLIGHT_FEATURES = FeatureService(
    name="flight_arrival_features",
    description="What is known about a flight two hours before it is scheduled to leave.",
    views=(
        ORIGIN_CONGESTION,
        CARRIER_PUNCTUALITY,
        ROUTE_PUNCTUALITY,
        AIRCRAFT_HISTORY,
        HOURLY_WEATHER,
    ),
    request=(DEPARTURE_TIME,),
    # Temperature and pressure tell the season, age and size tell the aircraft: with one year of
    # data each of them is there once, and a model learns it by heart.
    without=("temperature", "pressure", "aircraft_built", "aircraft_seats"),
)
