"""The main job as a plain script: the same reading, features, joins, training and scoring.

DuckDB and scikit-learn alone; no Dagster, Feast, MLflow or MAPIE, no checks, no pictures. The
estimators and calibrations compete as in the main job, through the same pure functions. Gets a JSON
file with the SQL of each table, and writes the predictions and the seconds per stage.
"""

import json
import sys
import time
import zipfile
from pathlib import Path

KNOWN = "outcome_known_at"
STARTED = time.perf_counter()


def main(plan_file: str, folder: str) -> None:
    import duckdb
    import numpy as np

    plan, seconds = json.loads(Path(plan_file).read_text()), {}
    clock = time.perf_counter()

    def lap(stage: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        seconds[stage] = seconds.get(stage, 0.0) + now - clock
        clock = now

    seconds["imports"] = clock - STARTED
    db = duckdb.connect()
    db.execute("SET TimeZone = 'UTC'")
    for name, (path, select) in plan["sources"].items():
        if path.endswith(".zip"):
            path = zipfile.ZipFile(path).extract(Path(path).stem, folder)
        read = f"read_csv('{path}', header = true, all_varchar = true, nullstr = ['NA', ''])"
        db.execute(f"CREATE TABLE {name} AS {select.replace('FROM file', 'FROM ' + read)}")
        db.execute(f"COPY {name} TO '{folder}/{name}.parquet'")
    lap("raw")
    for name, view in plan["views"].items():
        db.execute(f"CREATE TABLE {name} AS {view['sql']}")
        db.execute(f"COPY {name} TO '{folder}/{name}.parquet'")
    lap("features")
    db.execute(f"CREATE TABLE joined AS {plan['rows']} ORDER BY event_timestamp, flight_id")
    for name, view in plan["views"].items():
        keys = " AND ".join(f"r.{k} = f.{k}" for k in view["keys"])
        fresh = f"f.event_timestamp >= r.event_timestamp - to_seconds({view['ttl']})"
        values = ", ".join(f"CASE WHEN {fresh} THEN f.{c} END AS {c}" for c in view["features"])
        db.execute(
            f"CREATE OR REPLACE TABLE joined AS SELECT r.*, {values} FROM joined r "
            f"ASOF LEFT JOIN {name} f ON {keys} AND r.event_timestamp >= f.created_timestamp "
            "ORDER BY r.event_timestamp, r.flight_id"
        )
    frame = db.sql("SELECT * FROM joined").df()
    minute = frame["scheduled_departure_minute"]
    frame["departure_hour"] = (minute // 60).astype("float64")
    frame["departure_minute_of_day"] = minute.astype("float64")
    frame["departure_weekday"] = frame["scheduled_weekday"].astype("float64")
    frame["flight_distance"] = frame["distance"].astype("float64")
    lap("joins")
    sys.path.insert(0, plan["root"])
    from mlops_assets.core.calibrators import METHODS, calibrated, choose
    from mlops_assets.core.proper_scores import log_losses
    from mlops_assets.core.selection import day_groups, select, time_folds
    from mlops_assets.showcase.flights.specs import FLIGHT_DELAY

    lap("imports")
    times, known = frame["event_timestamp"], frame["outcome_known_at"]
    odd = times.dt.tz_localize(None).to_numpy().astype("datetime64[D]").astype(int) % 2 == 1

    def part(name: str):
        window = plan["windows"][name]
        chosen = (times >= window["start"]) & (times < window["end"])
        if name in ("train", "calibrate", "conformalize"):
            chosen &= known < window["end"]
        if window["days"] != "all":
            chosen &= odd if window["days"] == "odd" else ~odd
        rows = frame[chosen]
        return rows[plan["inputs"]], rows["arrives_late"].to_numpy(), rows["flight_id"]

    inputs, labels, _ = part("train")
    at = frame.loc[inputs.index]
    inside = {n: at[n].dt.tz_localize(None).to_numpy() for n in ("event_timestamp", KNOWN)}
    estimators = FLIGHT_DELAY.estimators
    cuts = time_folds(*inside.values(), **plan["folds"])
    selection = select(
        estimators,
        inputs,
        labels,
        cuts,
        seed=plan["seed"],
        losses=lambda m, x, y: log_losses(y == 1, m.predict_proba(x)[:, 1]),
        constant=lambda y: log_losses(y == 1, np.full(len(y), y.mean())),
    )
    model = estimators[selection.winner](plan["seed"]).fit(inputs, labels)
    inputs, labels, _ = part("calibrate")
    days = frame.loc[inputs.index]["event_timestamp"].dt.tz_localize(None).to_numpy()
    method, _ = choose(METHODS, model, inputs, labels, day_groups(days, 5))
    model = calibrated(method, model, inputs, labels)
    lap("training")
    inputs, labels, _ = part("conformalize")
    scores = np.sort(1 - model.predict_proba(inputs)[np.arange(len(labels)), labels])
    quantile = scores[int(np.ceil(0.9 * (len(scores) + 1))) - 1]
    inputs, labels, _ = part("holdout")
    holdout = model.predict_proba(inputs)
    covered = (1 - holdout[np.arange(len(labels)), labels] <= quantile).mean()
    inputs, _, ids = part("predict")
    predicted = model.predict_proba(inputs)[:, 1]
    lap("scoring")
    db.register("predicted", ids.to_frame().assign(probability=predicted))
    db.execute(f"COPY (SELECT * FROM predicted) TO '{folder}/predictions.parquet'")
    seconds["total"] = time.perf_counter() - STARTED
    Path(folder, "seconds.json").write_text(json.dumps({**seconds, "coverage": float(covered)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
