"""Reads the Parquet files of blocks with DuckDB, Polars and pyarrow, as any user of them would.

Usage: elsewhere.py BUCKET TRUTH [READER…]

READER is duckdb, polars, pyarrow or chdb (ClickHouse); without any, the first three.

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
    rest = row.get("labels_rest") or {}
    # a MAP is a dictionary, a list of pairs or a list of entries, as the reader likes
    entries = rest.items() if isinstance(rest, dict) else rest
    entries = (e.values() if isinstance(e, dict) else e for e in entries)
    labels.update({name: value for name, value in entries})
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


def is_v2(folder):
    return json.load(open(f"{folder}/meta.json"))["format"] == "parquet/2"


# As the page of the format has it. Needs `scale` of the series beside the columns of the window.
DECIMAL = "CREATE MACRO decimal_of(m, s) AS CASE WHEN s < 0 THEN m * power(10::DOUBLE, s) ELSE m / power(10::DOUBLE, s) END"
VALUES = {
    "max": """coalesce(x."max", decimal_of(max_m, scale))""",
    "min": """coalesce(x."min", decimal_of(min_m, scale))""",
    "sum": """coalesce(x."sum", decimal_of(sum_m, scale), decimal_of((sum_r + x."count" * (min_m + max_m)) // 2, scale))""",
    "counter": """coalesce(counter, decimal_of(counter_m, scale), x."max", decimal_of(max_m, scale))""",
}
VALUES_V1 = {"max": 'x."max"', "min": 'x."min"', "sum": 'x."sum"', "counter": 'coalesce(counter, x."max")'}


def with_duckdb(folder):
    db = duckdb.connect()
    db.execute(DECIMAL)
    values = VALUES if is_v2(folder) else VALUES_V1
    rows = db.execute(
        f"""
        WITH windows AS (
            SELECT x.series_id AS id, x."count" AS n, t, first_v, last_v,
                {values["sum"]} AS s, {values["min"]} AS low, {values["max"]} AS high, {values["counter"]} AS c
            FROM read_parquet(?) AS x JOIN read_parquet(?) AS y ON x.series_id = y.series_id
        )
        SELECT s.* EXCLUDE (min_t, max_t), found, "count", "sum", "min", "max", windows
        FROM read_parquet(?) AS s
        LEFT JOIN (
            SELECT id, count(*) AS found, sum(n) AS "count", sum(s) AS "sum", min(low) AS "min", max(high) AS "max",
                list({{'f': first_v, 'c': c, 'l': last_v}} ORDER BY t) AS windows
            FROM windows GROUP BY id
        ) ON id = s.series_id
        """,
        [files(folder, "samples"), files(folder, "series"), files(folder, "series")],
    )
    names = [column[0] for column in rows.description]
    series = [dict(zip(names, row)) for row in rows.fetchall()]
    for row in series:
        row["windows"] = [(w["f"], w["c"], w["l"]) for w in row["windows"] or []]
    histograms = files(folder, "histograms")
    if not histograms:
        return series, {}
    if is_v2(folder):
        wrong = db.execute(
            """
            SELECT count(*) FROM (
                SELECT h.series_id, h.window_id, any_value(coalesce(h.counter.count, h.counter.count_m)) AS observations,
                    any_value(h.counter.zero_count) + sum(coalesce(b.counter, b.counter_m)) AS in_buckets,
                    any_value(coalesce(h.sum.count, h.sum.count_m)) AS sums,
                    any_value(h.sum.zero_count) + sum(coalesce(b.sum, h.count * b.counter_m - b.sum_r)) AS sums_in_buckets
                FROM read_parquet(?) AS h JOIN read_parquet(?) AS b ON h.series_id = b.series_id AND h.window_id = b.window_id
                GROUP BY h.series_id, h.window_id
            ) WHERE observations <> in_buckets OR sums <> sums_in_buckets
            """,
            [histograms, files(folder, "buckets")],
        ).fetchone()[0]
        assert wrong == 0, f"{folder}: in {wrong} windows the buckets do not add up to the count"
    query = "SELECT series_id, sum(count) FROM read_parquet(?) GROUP BY series_id"
    return series, dict(db.execute(query, [histograms]).fetchall())


def decimal(mantissa, scale):
    return mantissa / 10.0**scale if scale >= 0 else mantissa * float(f"1e{scale}")


def with_polars(folder):
    read = lambda kind: polars.concat([polars.read_parquet(f) for f in files(folder, kind)])
    samples, all_series = read("samples"), read("series")
    if is_v2(folder):
        samples = samples.join(all_series.select("series_id", "scale"), on="series_id")
        scale = polars.col("scale").cast(polars.Float64)
        power = polars.lit(10.0).pow(scale.abs())
        dec = lambda m: polars.when(scale < 0).then(m.cast(polars.Float64) / power).otherwise(m / power)
        col = polars.col
        by_range = (col("sum_r") + col("count").cast(polars.Int64) * (col("min_m") + col("max_m"))) // 2
        high = polars.coalesce("max", dec(col("max_m")))
        samples = samples.with_columns(
            running=polars.coalesce(col("counter"), dec(col("counter_m")), high),
            sum=polars.coalesce("sum", dec(col("sum_m")), dec(by_range)),
            min=polars.coalesce("min", dec(col("min_m"))),
            max=high,
        )
    else:
        samples = samples.with_columns(polars.coalesce("counter", "max").alias("running"))
    windows = samples.sort("series_id", "t").group_by("series_id", maintain_order=True).agg(
        polars.len().alias("found"),
        polars.col("count", "sum").sum(),
        polars.col("min").min(),
        polars.col("max").max(),
        polars.col("first_v").alias("f"),
        polars.col("running").alias("c"),
        polars.col("last_v").alias("l"),
    )
    series = all_series.join(windows, on="series_id", how="left").to_dicts()
    for row in series:
        row["windows"] = list(zip(row["f"] or [], row["c"] or [], row["l"] or []))
    if not files(folder, "histograms"):
        return series, {}
    histograms = read("histograms").group_by("series_id").agg(polars.col("count").sum())
    return series, dict(histograms.iter_rows())


def values_of(row, scale):
    """Minimum, maximum, sum and counter of a window of format 2."""
    of = lambda name: row[name] if row[name + "_m"] is None else decimal(row[name + "_m"], scale)
    low, high = of("min"), of("max")
    if row["sum_r"] is not None:
        total = decimal((row["sum_r"] + row["count"] * (row["min_m"] + row["max_m"])) // 2, scale)
    else:
        total = of("sum")
    counter = of("counter")
    return {"min": low, "max": high, "sum": total, "running": high if counter is None else counter}


def with_pyarrow(folder):
    table = lambda kind: [row for f in files(folder, kind) for row in pyarrow.parquet.read_table(f).to_pylist()]
    by_series = {}
    for row in table("samples"):
        by_series.setdefault(row["series_id"], []).append(row)
    series = table("series")
    for row in series:
        windows = sorted(by_series.get(row["series_id"], []), key=lambda w: w["t"])
        for window in windows:
            if is_v2(folder):
                window.update(values_of(window, row["scale"]))
            else:
                window["running"] = window["max"] if window["counter"] is None else window["counter"]
        row["found"] = len(windows)
        for name, total in [("count", sum), ("sum", math.fsum), ("min", min), ("max", max)]:
            row[name] = total(w[name] for w in windows) if windows else None
        row["windows"] = [(w["first_v"], w["running"], w["last_v"]) for w in windows]
    histograms = {}
    for row in table("histograms"):
        histograms[row["series_id"]] = histograms.get(row["series_id"], 0) + row["count"]
    return series, histograms


def with_chdb(folder):
    """ClickHouse; it is large, so that only those who ask for it have it."""
    import chdb

    # labels_rest and scales are the same for all shards of a block
    of = lambda kind: f"file('{folder}/*.{kind}.parquet', 'Parquet')"
    dec = lambda m: f"if(scale < 0, {m} * exp10(scale), {m} / exp10(scale))"
    high, low = f"coalesce(x.max, {dec('max_m')})", f"coalesce(x.min, {dec('min_m')})"
    by_range = "intDiv(sum_r + x.count * (min_m + max_m), 2)"
    total = f"coalesce(x.sum, {dec('sum_m')}, {dec(by_range)})"
    counter = f"coalesce(x.counter, {dec('counter_m')}, {high})"
    if not is_v2(folder):
        high, low, total, counter = "x.max", "x.min", "x.sum", "coalesce(x.counter, x.max)"
    query = f"""
        SELECT series_id, count() AS found, sum(n) AS count, sum(s) AS sum, min(low) AS min, max(high) AS max,
            arraySort(w -> w.1, groupArray((t, f, c, l))) AS windows
        FROM (
            SELECT x.series_id AS series_id, toInt64(x.count) AS n, toUnixTimestamp64Milli(x.t) AS t, x.first_v AS f,
                x.last_v AS l, {total} AS s, {low} AS low, {high} AS high, {counter} AS c
            FROM {of("samples")} AS x JOIN {of("series")} AS y ON x.series_id = y.series_id
        ) GROUP BY series_id"""
    rows = [json.loads(line) for line in str(chdb.query(query, "JSONEachRow")).splitlines()]
    by_id = {row["series_id"]: row for row in rows}
    # labels by way of pyarrow: JSON would lose what is no UTF-8, and they are in the other readers
    series = [row for f in files(folder, "series") for row in pyarrow.parquet.read_table(f).to_pylist()]
    for row in series:
        found = by_id.get(row["series_id"], {})
        for name in ["found", "count", "sum", "min", "max"]:
            row[name] = None if found.get(name) is None else float(found[name])
        row["windows"] = [tuple(w[1:]) for w in found.get("windows", [])]
    histograms = files(folder, "histograms")
    if not histograms:
        return series, {}
    query = f"SELECT series_id, sum(count) AS n FROM {of('histograms')} GROUP BY series_id"
    rows = [json.loads(line) for line in str(chdb.query(query, "JSONEachRow")).splitlines()]
    return series, {row["series_id"]: int(row["n"]) for row in rows}


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


def check_statistics(bucket):
    """The metrics of a compacted block have as many series and samples as its meta.json says of all."""
    found = glob.glob(f"{bucket}/*/statistics.parquet")
    assert found, f"no statistics in {bucket}"
    for file in found:
        stats = json.load(open(file.replace("statistics.parquet", "meta.json")))["stats"]
        query = "SELECT sum(series), sum(samples) FROM read_parquet(?) WHERE kind = 'metric'"
        metrics = polars.read_parquet(file).filter(polars.col("kind") == "metric")
        rows = [row for row in pyarrow.parquet.read_table(file).to_pylist() if row["kind"] == "metric"]
        read = {
            "duckdb": duckdb.execute(query, [file]).fetchone(),
            "polars": metrics.select(polars.col("series", "samples").sum()).row(0),
            "pyarrow": tuple(sum(row[name] for row in rows) for name in ["series", "samples"]),
        }
        for reader, sums in read.items():
            assert sums == (stats["numSeries"], stats["numSamples"]), f"{reader}: {file}: {sums}, not {stats}"


def main():
    bucket, truth = sys.argv[1], json.load(open(sys.argv[2]))
    for name in sys.argv[3:] or ["duckdb", "polars", "pyarrow"]:
        reader = globals()[f"with_{name}"]
        check(reader.__name__, totals(reader, bucket), truth)
    check_statistics(bucket)


main()
