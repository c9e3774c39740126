"""Reads the Parquet files of downsampled blocks with DuckDB, Polars and pyarrow, as any user of them would.

Usage: elsewhere.py BUCKET TRUTH

BUCKET is the folder of a bucket, TRUTH a JSON file: for every series, by its name and labels as sorted JSON, what the
generator knows: its kind, count, sum, min and max of its samples, and of a counter all that it grew, resets added. Of
native histograms only the count. Prints one line per reader and exits with 1 when anything differs.
"""

import glob
import json
import math
import sys

import duckdb
import polars
import pyarrow.parquet


def close(a, b):
    return a == b or abs(a - b) <= 1e-9 * max(abs(a), abs(b))


def blocks(bucket):
    """The folders of 5m blocks in order of time; a series_id means something within one of them only."""
    found = glob.glob(f"{bucket}/parquet/v1/*/300000/*/") + glob.glob(f"{bucket}/parquet/v1/*/5m/*/")
    assert found, f"no 5m block in {bucket}"
    start = lambda folder: json.load(open(f"{folder}/meta.json"))["minTime"]
    return sorted(found, key=start)


def files(folder, kind):
    return sorted(glob.glob(f"{folder}/*.{kind}.parquet"))


def key(row):
    """Name and labels of a row of series.parquet."""
    labels = {name[2:]: value for name, value in row.items() if name.startswith("l_") and value not in (None, "")}
    return json.dumps(labels, sort_keys=True, separators=(",", ":"))


def growth_of(windows):
    """Adds up what a counter grew over (first_v, counter, last_v) of its windows in order of time.

    `counter` starts in each batch from the batch's first raw value; between two batches the raw values tell.
    """
    total, batch_start, batch_end, last_raw = 0.0, None, None, None
    for first_v, counter, last_v in windows:
        if first_v is not None:
            if batch_end is not None:
                total += batch_end - batch_start
                total += first_v - last_raw if first_v >= last_raw else first_v
            batch_start, last_raw = first_v, last_v
        batch_end = counter
    return total + (batch_end - batch_start if batch_end is not None else 0.0)


def with_duckdb(folder):
    db = duckdb.connect()
    rows = db.execute(
        """
        SELECT s.* EXCLUDE (min_t, max_t), x.* FROM read_parquet(?) AS s
        LEFT JOIN (
            SELECT series_id AS id, count(*) AS found, sum("count") AS "count", sum("sum") AS "sum",
                min("min") AS "min", max("max") AS "max",
                list({'f': first_v, 'c': coalesce(counter, "max"), 'l': last_v} ORDER BY t) AS windows
            FROM read_parquet(?) GROUP BY series_id
        ) AS x ON x.id = s.series_id
        """,
        [files(folder, "series"), files(folder, "samples")],
    )
    names = [column[0] for column in rows.description]
    series = [dict(zip(names, row)) for row in rows.fetchall()]
    for row in series:
        row["windows"] = [(w["f"], w["c"], w["l"]) for w in row["windows"] or []]
    histograms = files(folder, "histograms")
    query = "SELECT series_id, sum(count) FROM read_parquet(?) GROUP BY series_id"
    return series, dict(db.execute(query, [histograms]).fetchall()) if histograms else {}


def with_polars(folder):
    read = lambda kind: polars.concat([polars.read_parquet(f) for f in files(folder, kind)])
    running = polars.coalesce("counter", "max").alias("running")
    samples = read("samples").sort("series_id", "t").with_columns(running)
    windows = samples.group_by("series_id", maintain_order=True).agg(
        polars.len().alias("found"),
        polars.col("count", "sum").sum(),
        polars.col("min").min(),
        polars.col("max").max(),
        polars.col("first_v").alias("f"),
        polars.col("running").alias("c"),
        polars.col("last_v").alias("l"),
    )
    series = read("series").join(windows, on="series_id", how="left").to_dicts()
    for row in series:
        row["windows"] = list(zip(row["f"] or [], row["c"] or [], row["l"] or []))
    if not files(folder, "histograms"):
        return series, {}
    histograms = read("histograms").group_by("series_id").agg(polars.col("count").sum())
    return series, dict(histograms.iter_rows())


def with_pyarrow(folder):
    table = lambda kind: [row for f in files(folder, kind) for row in pyarrow.parquet.read_table(f).to_pylist()]
    by_series = {}
    for row in table("samples"):
        by_series.setdefault(row["series_id"], []).append(row)
    series = table("series")
    for row in series:
        windows = sorted(by_series.get(row["series_id"], []), key=lambda w: w["t"])
        row["found"] = len(windows)
        for name, total in [("count", sum), ("sum", math.fsum), ("min", min), ("max", max)]:
            row[name] = total(w[name] for w in windows) if windows else None
        counter = lambda w: w["max"] if w["counter"] is None else w["counter"]
        row["windows"] = [(w["first_v"], counter(w), w["last_v"]) for w in windows]
    histograms = {}
    for row in table("histograms"):
        histograms[row["series_id"]] = histograms.get(row["series_id"], 0) + row["count"]
    return series, histograms


def totals(reader, bucket):
    """What a reader finds of each series over all blocks."""
    found = {}
    for folder in blocks(bucket):
        series, histograms = reader(folder)
        for row in series:
            assert (row["found"] or 0) == row["n_rows"], f"{key(row)}: {row['found']} rows, not {row['n_rows']}"
            total = found.setdefault(key(row), {"count": 0, "sums": [], "mins": [], "maxs": [], "windows": []})
            total["count"] += (row["count"] or 0) + histograms.get(row["series_id"], 0)
            for name in ["sum", "min", "max"]:
                total[name + "s"] += [] if row[name] is None else [row[name]]
            total["windows"] += row["windows"]
    return found


def check(reader, found, truth):
    assert set(found) == set(truth), f"{reader}: other series: {sorted(set(found) ^ set(truth))[:5]}"
    for name, want in truth.items():
        got = found[name]
        assert got["count"] == want["count"], f"{reader}: {name}: {got['count']} samples, not {want['count']}"
        if want["kind"] == "histogram":
            continue
        for what, value in [("sum", math.fsum(got["sums"])), ("min", min(got["mins"])), ("max", max(got["maxs"]))]:
            assert close(value, want[what]), f"{reader}: {what} of {name} is {value}, not {want[what]}"
        if want["kind"] == "counter":
            growth = growth_of(got["windows"])
            assert close(growth, want["growth"]), f"{reader}: {name} grew {growth}, not {want['growth']}"
    print(f"{reader}: {len(found)} series")


def main():
    bucket, truth = sys.argv[1], json.load(open(sys.argv[2]))
    for reader in [with_duckdb, with_polars, with_pyarrow]:
        check(reader.__name__, totals(reader, bucket), truth)


main()
