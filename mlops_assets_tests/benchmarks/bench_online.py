"""How fast the online store is, beside Feast's SQLite store, on the views of the flights showcase.

    python -m mlops_assets_tests.benchmarks.bench_online

Makes its own data in a temporary folder. Both stores are filled from the same files and give the
same answers before any time is shown. The service is the showcase's: five views and one computed
at request time; it is read with and without the latter. All run in this one process, in turns.

The whole service carries the goal, against the best that Feast can do: Feast runs the request
features as they are declared (through pandas), and also as an on-demand view in plain Python that
is written here by hand, which is its quickest. The latter counts.

Feast materializes as it does by default, and also with `pull_latest_features`. Both read through
our offline store: Feast's own cannot read folders of daily files. Few keys (an airport) cost Feast
little and us little more than opening DuckDB; many keys (an aircraft per row) are what takes time.
"""

import contextlib
import io
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import feast
import numpy as np
from feast.on_demand_feature_view import on_demand_feature_view

from mlops_assets.showcase.flights.features import DEPARTURE_TIME, FLIGHT_FEATURES
from mlops_assets.stores.feature_store import FeatureStore
from mlops_assets.stores.online_materialize import materialize
from mlops_assets.stores.online_reader import OnlineReader

OURS = "mlops_assets.stores.online_store.NewestOnlineStore"
ASOF = "mlops_assets.stores.asof_offline_store.AsofDuckDBOfflineStore"
NOW = datetime.now(UTC).replace(microsecond=0)
DAYS = 5
START = NOW - timedelta(days=DAYS)
ROWS = {"aircraft_history": 60_000, "hourly_weather": 360}
OTHER_ROWS = 336_000
KEYS = {"origin": 3, "dest": 105, "carrier": 16, "tailnum": 60_000}
CALLS = 2_000
FEAST = "Feast, its SQLite store"
WHOLE, BY_HAND = FLIGHT_FEATURES.name, "by_hand"
GOALS = {
    "read, five views: p50": 5.0,
    "read, five views: p99": 5.0,
    "read, whole service: p50": 5.0,
    "read, whole service: p99": 5.0,
    "materialize, all keys distinct": 10.0,
    "materialize, all five views": 10.0,
}


def make_data(folder: Path) -> None:
    """Write each view as daily files; every row of `aircraft_history` has a key of its own."""
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'; SET threads = 1; SELECT setseed(0.5)").fetchall()
    step = DAYS * 86_400_000_000
    for view in FLIGHT_FEATURES.views:
        rows = ROWS.get(view.name, OTHER_ROWS)
        keys = ", ".join(
            f"'{entity.name[0]}' || (row * {7919 if entity.name == 'tailnum' else 1} "
            f"% {KEYS[entity.name]}) AS {entity.name}"
            for entity in view.entities
        )
        values = ", ".join(
            f"CASE WHEN random() < 0.1 THEN NULL ELSE round(random() * 100, 3) END AS {f.name}"
            for f in view.features
        )
        # Whole seconds: Feast's SQLite store keeps no less.
        moment = f"make_timestamptz({int(START.timestamp())}000000 + row * {step} // {rows} "
        event = f"date_trunc('second', {moment}))"
        (folder / view.name).mkdir(parents=True)
        for day in range(DAYS + 1):
            first, last = (START + timedelta(days=day + i) for i in (0, 1))
            database.execute(
                f"COPY (SELECT * FROM (SELECT {keys}, {event} AS event_timestamp, {event} AS "
                f"created_timestamp, {values} FROM range({rows}) AS r(row)) WHERE "
                f"event_timestamp >= '{first.isoformat()}' AND event_timestamp < "
                f"'{last.isoformat()}') TO '{folder}/{view.name}/{first:%Y-%m-%d}.parquet'"
            ).fetchall()
    database.close()


def make_store(folder: Path, data: Path, online: dict[str, Any]) -> feast.FeatureStore:
    """Declare the showcase over the data, with one of the online stores."""
    folder.mkdir()
    store = feast.FeatureStore(
        config=feast.RepoConfig(
            project="flights",
            provider="local",
            registry=str(folder / "registry.db"),
            offline_store={"type": ASOF, "threads": 1},
            online_store=online,
            entity_key_serialization_version=3,
        )
    )
    ours = FeatureStore("flights", folder, lambda view: data / view.name)
    ours.__dict__["feast"] = store
    ours.apply((FLIGHT_FEATURES,))
    views = [store.get_feature_view(view.name) for view in FLIGHT_FEATURES.views]
    members = [
        view[[f.name for f in FLIGHT_FEATURES.used(one)]]
        for view, one in zip(views, FLIGHT_FEATURES.views, strict=True)
    ]
    by_hand = departure_time_by_hand(store)
    services = {"stored_only": members, BY_HAND: [*members, by_hand]}
    made = [feast.FeatureService(name=name, features=some) for name, some in services.items()]
    store.apply([by_hand, *made])
    return store


def departure_time_by_hand(store: feast.FeatureStore) -> feast.OnDemandFeatureView:
    """The showcase's request features as Feast computes them most quickly: without pandas."""
    declared = store.get_on_demand_feature_view(DEPARTURE_TIME.name)

    @on_demand_feature_view(
        sources=list(declared.source_request_sources.values()),
        schema=declared.features,
        mode="python",
    )
    def in_python(columns: dict[str, Any]) -> dict[str, Any]:
        minutes = columns["scheduled_departure_minute"]
        return {
            "departure_hour": [float(minute // 60) for minute in minutes],
            "departure_minute_of_day": [float(minute) for minute in minutes],
            "departure_weekday": [float(weekday) for weekday in columns["scheduled_weekday"]],
            "flight_distance": columns["distance"],
        }

    return in_python


def entity_rows(count: int) -> list[dict[str, Any]]:
    """Rows that ask for what is there, and now and then for what is not."""
    random = np.random.default_rng(7)
    return [
        {
            "origin": f"o{random.integers(3)}",
            "dest": f"d{random.integers(110)}",
            "carrier": f"c{random.integers(16)}",
            "tailnum": f"t{random.integers(61_000)}",
            "scheduled_departure_minute": int(random.integers(1440)),
            "scheduled_weekday": int(random.integers(1, 8)),
            "distance": float(random.integers(100, 2500)),
        }
        for _ in range(count)
    ]


def quietly(work: Callable[[], Any]) -> float:
    """Run Feast's materialization without its progress bars; return the seconds."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        start = time.perf_counter()
        work()
        return time.perf_counter() - start


def fill(feasts: feast.FeatureStore, ours: feast.FeatureStore) -> dict[str, tuple[float, ...]]:
    """Materialize all views in both stores; return source rows per second, by view."""
    rates = {}
    for view in FLIGHT_FEATURES.views:
        name, rows = view.name, ROWS.get(view.name, OTHER_ROWS)
        seconds = []
        for latest in (False, True):
            feasts.config.materialization_config.pull_latest_features = latest
            seconds.append(quietly(partial(feasts.materialize, START, NOW, [name])))
        fresh = []
        for _ in range(3):
            # A run of ours is so short that another process on the machine shows: the median.
            online = ours._get_provider().online_store
            online.teardown(ours.config, [ours.get_feature_view(name)], [])
            fresh.append(materialize(ours, name, START, NOW, record=False).seconds)
        again = materialize(ours, name, START, NOW, record=False).seconds
        seconds += [float(np.median(fresh)), again]
        rates[name] = tuple(rows / one for one in seconds)
    return rates


def check(feasts: feast.FeatureStore, ours: feast.FeatureStore) -> None:
    """Stop unless Feast's answer, ours through Feast and the reader's are the same."""
    rows = entity_rows(300)
    whole = {}
    for service in ("stored_only", WHOLE, BY_HAND):
        answers = [
            store.get_online_features(store.get_feature_service(service), rows).to_dict(True)
            for store in (feasts, ours)
        ]
        if answers[0] != answers[1]:
            raise SystemExit(f"{service}: the two stores give different answers")
        reader = OnlineReader(ours, service)
        read = reader.read(rows)
        columns = dict(zip(read.names, map(list, zip(*read.values, strict=True)), strict=True))
        if columns != {name: answers[0][name] for name in read.names}:
            raise SystemExit(f"{service}: the reader gives a different answer")
        if read.values != [reader.read([row]).values[0] for row in rows]:
            raise SystemExit(f"{service}: one row alone is answered differently")
        nulls = sum(value is None for row in read.values for value in row)
        print(f"{service}: {len(rows)} equal answers of {len(read.names)} features, {nulls} null")
        whole[service] = answers[0]
    if whole[WHOLE] != whole[BY_HAND]:
        raise SystemExit("the request features written by hand give a different answer")


def latencies(contenders: dict[str, Callable[[dict[str, Any]], Any]]) -> dict[str, np.ndarray]:
    """Microseconds of each call; contenders take turns, so that a busy machine hits them all."""
    rows = entity_rows(CALLS)
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for call in contenders.values():
        for row in rows[:50]:
            call(row)
    for start in range(0, CALLS, 50):
        for name, call in contenders.items():
            # Feast remembers one registry at a time: another store's turn has made it forget.
            call(rows[start])
            for row in rows[start : start + 50]:
                begin = time.perf_counter_ns()
                call(row)
                found[name].append((time.perf_counter_ns() - begin) / 1_000)
    return {name: np.array(times) for name, times in found.items()}


def through_feast(store: feast.FeatureStore, name: str) -> Callable[[dict[str, Any]], Any]:
    """`get_online_features` for one row."""
    service = store.get_feature_service(name)
    return lambda row: store.get_online_features(service, [row]).to_dict()


def through_reader(store: feast.FeatureStore, name: str) -> Callable[[dict[str, Any]], Any]:
    """Our reader for one row."""
    reader = OnlineReader(store, name)
    return lambda row: reader.read([row])


def measure_loading(stores: dict[str, feast.FeatureStore]) -> dict[str, float]:
    """Fill the stores; print rates and return the ratios."""
    rates = fill(stores["feast"], stores["ours"])
    if "redis" in stores:
        for view in FLIGHT_FEATURES.views:
            done = materialize(stores["redis"], view.name, START, NOW, record=False)
            rows = ROWS.get(view.name, OTHER_ROWS)
            rates[view.name] += (rows / done.seconds,)
    check(stores["feast"], stores["ours"])
    titles = ("Feast", "Feast, latest", "ours", "ours, again", "ours, Redis")
    print(f"\n{'source rows per second':22}" + "".join(f"{title:>15}" for title in titles))
    for name, numbers in rates.items():
        print(f"{name:22}" + "".join(f"{rate:15,.0f}" for rate in numbers))
    ratios = {}
    for place, mode in ((0, ""), (1, ", latest")):
        for view, kind in (
            ("aircraft_history", "all keys distinct"),
            ("origin_congestion", "few keys"),
        ):
            ratios[f"materialize, {kind}{mode}"] = rates[view][2] / rates[view][place]
        seconds = [
            sum(ROWS.get(name, OTHER_ROWS) / found[which] for name, found in rates.items())
            for which in (place, 2)
        ]
        ratios[f"materialize, all five views{mode}"] = seconds[0] / seconds[1]
    return ratios


def measure_reading(stores: dict[str, feast.FeatureStore]) -> dict[str, float]:
    """Read one entity row at a time; print latencies and return the ratios."""
    ratios = {}
    print(f"\n{'one entity, microseconds':52}{'p50':>9}{'p99':>9}")
    for service, title in (("stored_only", "five views"), (WHOLE, "whole service")):
        contenders = {FEAST: through_feast(stores["feast"], service)}
        if service == WHOLE:
            contenders[f"{FEAST}, by hand"] = through_feast(stores["feast"], BY_HAND)
        for name in [name for name in stores if name != "feast"]:
            contenders[f"Feast, our store ({name})"] = through_feast(stores[name], service)
            contenders[f"our reader ({name})"] = through_reader(stores[name], service)
        times = latencies(contenders)
        p50, p99 = ({n: np.percentile(t, q) for n, t in times.items()} for q in (50, 99))
        for name in times:
            print(f"{title + ': ' + name:52}{p50[name]:9.0f}{p99[name]:9.0f}")
        for title_, found in (("p50", p50), ("p99", p99)):
            reader = found["our reader (ours)"]
            if service == WHOLE:
                ratios[f"read, {title}, as declared: {title_}"] = float(found[FEAST] / reader)
            best = min(found[name] for name in found if name.startswith(FEAST))
            ratios[f"read, {title}: {title_}"] = float(best / reader)
    return ratios


def main() -> None:
    """Measure everything and print the tables; exit 1 if a goal is missed."""
    warnings.filterwarnings("ignore")
    url = os.environ.get("MLOPS_TEST_REDIS_URL", "redis://127.0.0.1:6379")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_data(folder / "data")
        settings = {
            "feast": {"type": "sqlite", "path": str(folder / "feast.db")},
            "ours": {"type": OURS, "path": str(folder / "ours.db")},
            "redis": {"type": OURS, "connection_string": url, "key_prefix": folder.name},
        }
        stores = {
            name: make_store(folder / name, folder / "data", online)
            for name, online in settings.items()
            if name != "redis" or reachable(url)
        }
        try:
            ratios = measure_loading(stores) | measure_reading(stores)
        finally:
            if "redis" in stores:
                stores["redis"].teardown()
    print(f"\n{'Feast / ours':40}{'measured':>9}{'goal':>7}")
    missed = 0
    for title, ratio in ratios.items():
        goal = GOALS.get(title)
        missed += goal is not None and ratio < goal
        verdict = "" if goal is None else f"{goal:7.0f}{'' if ratio >= goal else ' MISSED'}"
        print(f"{title:40}{ratio:9.1f}{verdict}")
    sys.exit(1 if missed else 0)


def reachable(url: str) -> bool:
    """Whether a Redis server answers."""
    try:
        import redis

        return bool(redis.Redis.from_url(url).ping())
    except (ImportError, OSError, redis.RedisError) as error:
        print(f"without Redis: {error}")
        return False


if __name__ == "__main__":
    main()
