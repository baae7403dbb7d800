"""How fast the offline store's join is, beside Feast's own and beside the bare ASOF statement.

    python -m mlops_assets_tests.benchmarks.bench_asof

Makes its own data in a temporary folder. Every figure comes from a process of its own, so that
peak memory is that of one contender. Answers are compared before any time is shown.

The year is the showcase's: all flights, its five views as daily files. There the contenders take
turns in one process, and both go from the same Parquet files to Arrow.
"""

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlops_assets.engines import duckdb as engine
from mlops_assets.showcase.flights.specs import FLIGHT_DELAY
from mlops_assets.stores import asof_source
from mlops_assets.stores.feature_store import FeatureStore
from mlops_assets.stores.lake import Lake

SCHEMA_FEATURES = ["f1", "f2", "f3"]
YEAR_US = 365 * 86_400 * 1_000_000
MODULE = "mlops_assets_tests.benchmarks.bench_asof"
FEAST_ROWS = 50_000
YEAR_ROUNDS = 7
GOALS = {
    "flights: Feast / ours": (100.0, ">="),
    "1M x 10M: plain / raw": (2.0, "<="),
    "1M x 10M: known / plain": (4.0, "<="),
    "2M x 20M / 1M x 10M, plain": (2.4, "<="),
    "2M x 20M / 1M x 10M, known": (2.4, "<="),
    "1M x 10M: peak GB": (4.0, "<="),
    "year, five views: plain / raw": (3.0, "<"),
}


def make_data(folder: Path) -> None:
    """Write a flights-like view (3 keys, 336,000 rows) and two sizes of a wide one."""
    sizes = {"flights": (336_000, FEAST_ROWS, 3), "one": (10_000_000, 1_000_000, 100_000)}
    sizes["two"] = (20_000_000, 2_000_000, 100_000)
    for name, (features, entities, keys) in sizes.items():
        database = duckdb.connect()
        database.execute("SET TimeZone = 'UTC'; SET threads = 1; SELECT setseed(0.5)").fetchall()
        moment = f"make_timestamptz(1356998400000000 + (random() * {YEAR_US})::BIGINT)"
        # A fifth of the rows is known late, by up to six hours.
        lag = (
            "to_microseconds(CASE WHEN random() < 0.2 THEN (random() * 2.16e10)::BIGINT ELSE 0 END)"
        )
        database.execute(
            f"COPY (SELECT k, event, event + {lag} AS created, random() AS f1, random() AS f2, "
            f"(random() * 1000)::BIGINT AS f3 FROM (SELECT (random() * {keys})::BIGINT AS k, "
            f"{moment} AS event FROM range({features}))) TO '{folder}/{name}.parquet'"
        )
        database.execute(
            f"COPY (SELECT row, (random() * {keys})::BIGINT AS k, {moment} AS event_timestamp "
            f"FROM range({entities}) AS r(row)) TO '{folder}/{name}-rows.parquet'"
        )
        database.close()


def digest(table: pa.Table) -> str:
    """A digest of the features in the order of the entity rows."""
    ordered = table.sort_by("row").select(["row", *SCHEMA_FEATURES])
    state = hashlib.sha256()
    for name in ordered.column_names:
        column = ordered.column(name).combine_chunks()
        state.update(column.is_null().to_numpy(zero_copy_only=False).tobytes())
        state.update(column.fill_null(0).to_numpy(zero_copy_only=False).astype("f8").tobytes())
    return state.hexdigest()


def raw(folder: Path, name: str) -> Callable[[], pa.Table]:
    """The bare statement, from Parquet to Arrow."""

    def run() -> pa.Table:
        database = duckdb.connect()
        database.execute("SET TimeZone = 'UTC'")
        return database.sql(
            f"SELECT e.*, f1, f2, f3 FROM '{folder}/{name}-rows.parquet' e ASOF LEFT JOIN "
            f"'{folder}/{name}.parquet' f ON e.k = f.k AND e.event_timestamp >= f.event"
        ).to_arrow_table()

    return run


def retrieval(
    folder: Path, name: str, store: str, *, known: bool, ttl: timedelta | None
) -> Callable[[], pa.Table]:
    """`get_historical_features` of one of the stores, from a pandas frame to Arrow."""
    from feast import Entity, FeatureView, Field, FileSource, ValueType
    from feast.data_format import ParquetFormat
    from feast.infra.offline_stores.duckdb import DuckDBOfflineStore
    from feast.types import Float64, Int64

    from mlops_assets.stores.asof_offline_store import AsofDuckDBOfflineStore

    view = FeatureView(
        name="v",
        entities=[Entity(name="k", join_keys=["k"], value_type=ValueType.INT64)],
        ttl=ttl,
        schema=[
            Field(name="k", dtype=Int64),
            *(Field(name=f, dtype=Float64 if f != "f3" else Int64) for f in SCHEMA_FEATURES),
        ],
        source=FileSource(
            path=str(folder / f"{name}.parquet"),
            file_format=ParquetFormat(),
            timestamp_field="event",
            created_timestamp_column="created",
        ),
    )
    offline = SimpleNamespace(
        staging_location=None,
        staging_location_endpoint_override=None,
        as_known=known,
        memory_limit=None,
        threads=None,
    )
    config = SimpleNamespace(repo_path=str(folder), offline_store=offline)
    registry = SimpleNamespace(list_on_demand_feature_views=lambda *_, **__: [])
    frame = pq.read_table(folder / f"{name}-rows.parquet").to_pandas()
    refs = [f"v:{feature}" for feature in SCHEMA_FEATURES]
    kind = AsofDuckDBOfflineStore if store == "ours" else DuckDBOfflineStore

    def run() -> pa.Table:
        rows = frame.copy() if store == "feast" else frame  # Feast writes into the frame
        job = kind.get_historical_features(
            config, [view], refs, rows, registry, "p", filter_by_created_timestamp=known
        )
        return job.to_arrow()

    return run


def check_sample(folder: Path, name: str, answer: pa.Table) -> None:
    """Compare 2,000 rows with all pairs ranked: slow, and plainly the definition."""
    sample = answer.sort_by("row").slice(0, 2_000).select(["row", "k", "event_timestamp", "f1"])
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    database.register("sample", sample)
    expected = database.execute(
        f"""
        SELECT s.row, arg_max(f.f1, (f.event, f.created)) FROM sample s
        LEFT JOIN '{folder}/{name}.parquet' f
            ON s.k = f.k AND f.event <= s.event_timestamp AND f.created <= s.event_timestamp
        GROUP BY ALL ORDER BY ALL
        """
    ).fetchall()
    found = list(zip(sample["row"].to_pylist(), sample["f1"].to_pylist(), strict=True))
    if found != expected:
        raise SystemExit(f"{name}: the answer with cutoff differs from the definition")


def make_year(lake: Lake) -> None:
    """Compute the showcase's entity rows and views, as the main job does."""
    for source in FLIGHT_DELAY.sources:
        engine.write_source(lake, source)
    engine.write_rows(lake, FLIGHT_DELAY.rows, "benchmark")
    for view in FLIGHT_DELAY.features.views:
        engine.write_features(lake, view, engine.days_of(view))


def raw_year(lake: Lake, moment: str) -> Callable[[], list[pa.Table]]:
    """The bare joins; `moment` is the column of the features that a row's time is compared with.

    A statement per view: all five joins in one statement take nearly twice as long. No two feature
    rows of the year share keys and event time, so nothing decides between such rows.
    """
    statements = []
    for view in FLIGHT_DELAY.features.views:
        keys = " AND ".join(f"e.{key.name} = f.{key.name}" for key in view.entities)
        oldest = f"e.event_timestamp - to_seconds({view.ttl.total_seconds()})"
        values = ", ".join(
            f"CASE WHEN f.event_timestamp >= {oldest} THEN f.{column.name} END AS {column.name}"
            for column in FLIGHT_DELAY.features.used(view)
        )
        statements.append(
            f"SELECT e.flight_id, {values} FROM '{lake.file(engine.rows(FLIGHT_DELAY.rows))}' e "
            f"ASOF LEFT JOIN '{lake.folder(engine.features(view))}/*.parquet' f "
            f"ON {keys} AND e.event_timestamp >= f.{moment}"
        )

    def run() -> list[pa.Table]:
        with lake.connect() as database:
            database.execute("SET preserve_insertion_order = false")
            return [database.sql(statement).to_arrow_table() for statement in statements]

    return run


def year_retrieval(lake: Lake, folder: Path) -> Callable[..., pa.Table]:
    """`get_historical_features` of all flights; `known` turns on the cutoff by created time."""
    service = FLIGHT_DELAY.features
    declared = FeatureStore("year", folder, lambda view: lake.folder(engine.features(view)))
    declared.apply((service,))
    store = declared.feast
    store.config.offline_store.as_known = False
    refs = [f"{view.name}:{column.name}" for view in service.views for column in service.used(view)]

    def run(*, known: bool = False, first: bool = False) -> pa.Table:
        if first:
            # As in a new process, which has read no file's footer yet.
            asof_source._footers.clear()
        frame = pq.read_table(lake.file(engine.rows(FLIGHT_DELAY.rows))).to_pandas()
        job = store.get_historical_features(frame, refs, filter_by_created_timestamp=known)
        return job.to_arrow()

    return run


def check_year(lake: Lake, answer: pa.Table, parts: list[pa.Table]) -> None:
    """Stop unless all rows are there, in their order, and every value is that of the bare join."""
    rows = pq.read_table(lake.file(engine.rows(FLIGHT_DELAY.rows)))
    if not answer["flight_id"].equals(rows["flight_id"]):
        raise SystemExit("year: the answer does not have the entity rows in their order")
    answer = answer.sort_by("flight_id")
    for part in (part.sort_by("flight_id") for part in parts):
        for name in part.column_names:
            if not answer[name].equals(part[name]):
                raise SystemExit(f"year: {name!r} has other values than the bare join")


def measure_year(folder: Path) -> dict[str, float]:
    """Median seconds of each contender; they take turns, so that a busy machine hits them all."""
    lake = Lake(folder / "lake")
    make_year(lake)
    ours = year_retrieval(lake, folder / "feast")
    contenders: dict[str, Callable[[], Any]] = {
        "raw": raw_year(lake, "event_timestamp"),
        "plain": ours,
        "plain, first": partial(ours, first=True),
        "raw, known": raw_year(lake, "created_timestamp"),
        "known": partial(ours, known=True),
        "known, first": partial(ours, known=True, first=True),
    }
    for kind, bare in (("plain", "raw"), ("known", "raw, known")):
        check_year(lake, contenders[kind](), contenders[bare]())
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(YEAR_ROUNDS):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(found)) for name, found in seconds.items()}


def work(folder: Path, task: str) -> None:
    """Run one contender and print what was measured as JSON."""
    if task == "year":
        print(json.dumps(measure_year(folder)))
        return
    name, contender = task.split(":")
    three_days = timedelta(days=3) if name == "flights" else None
    contenders: dict[str, Callable[[], Callable[[], pa.Table]]] = {
        "raw": lambda: raw(folder, name),
        "plain": lambda: retrieval(folder, name, "ours", known=False, ttl=three_days),
        "known": lambda: retrieval(folder, name, "ours", known=True, ttl=three_days),
        "feast": lambda: retrieval(folder, name, "feast", known=True, ttl=three_days),
    }
    run = contenders[contender]()
    answer = run()
    result: dict[str, Any] = {"digest": digest(answer)}
    if contender == "known" and name != "flights":
        check_sample(folder, name, answer)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    del answer
    seconds = []
    for _ in range(1 if contender == "feast" else 5):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    result |= {"seconds": float(np.median(seconds)), "peak": peak}
    print(json.dumps(result))


def main() -> None:
    """Measure everything and print the table; exit 1 if a goal is missed."""
    tasks = ["flights:feast", "flights:known", "one:raw", "one:plain", "one:known"]
    tasks += ["two:raw", "two:plain", "two:known"]
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_data(Path(folder))
        for task in [*tasks, "year"]:
            command = [sys.executable, "-W", "ignore", "-m", MODULE, folder, task]
            done = subprocess.run(command, capture_output=True, text=True, timeout=600)
            if done.returncode:
                raise SystemExit(f"{task}: {done.stderr}")
            found[task] = json.loads(done.stdout.splitlines()[-1])
    year = found.pop("year")
    for one, other in (("flights:feast", "flights:known"), ("one:raw", "one:plain")):
        if found[one]["digest"] != found[other]["digest"]:
            raise SystemExit(f"{one} and {other} give different answers")
    if found["two:raw"]["digest"] != found["two:plain"]["digest"]:
        raise SystemExit("two:raw and two:plain give different answers")
    print("All answers equal.\n")
    print(f"{'contender':16} {'seconds':>9} {'peak GB':>8}")
    for task, measured in found.items():
        print(f"{task:16} {measured['seconds']:9.3f} {measured['peak']:8.2f}")
    print(f"\n{'year, five views':16} {'seconds':>9} {'/ raw':>8}")
    for name, seconds in year.items():
        print(f"{name:16} {seconds:9.3f} {seconds / year['raw']:8.2f}")
    print(
        f"The cutoff by created time: {year['known'] / year['plain']:.2f} times the plain join, "
        f"{year['known'] / year['raw, known']:.2f} times the bare joins on created time."
    )

    def ratio(one: str, other: str) -> float:
        return float(found[one]["seconds"] / found[other]["seconds"])

    values = [
        ratio("flights:feast", "flights:known"),
        ratio("one:plain", "one:raw"),
        ratio("one:known", "one:plain"),
        ratio("two:plain", "one:plain"),
        ratio("two:known", "one:known"),
        max(found["one:plain"]["peak"], found["one:known"]["peak"]),
        year["plain"] / year["raw"],
    ]
    print(f"\n{'ratio':30} {'measured':>9} {'goal':>9}")
    missed = 0
    for (title, (goal, sign)), value in zip(GOALS.items(), values, strict=True):
        met = {">=": value >= goal, "<=": value <= goal, "<": value < goal}[sign]
        missed += not met
        print(f"{title:30} {value:9.2f} {sign:>4} {goal:g} {'' if met else 'MISSED'}")
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        work(Path(sys.argv[1]), sys.argv[2])
    else:
        main()
