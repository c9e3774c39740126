//! Broken bytes, peers that are down and malformed requests: a clear error, nothing lost,
//! everything else served.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::ensure;
use serde_json::Value;

use crate::harness::binaries::{Binaries, binaries};
use crate::harness::bucket::Bucket;
use crate::harness::fleet::{
    Component, Maker, Prometheus, PrometheusSettings, compact_args, query, sidecar_args, store_args,
};
use crate::harness::golden_server::golden_prometheus;
use crate::harness::process::{Finished, run};
use crate::harness::synthetic_blocks::Blocks;
use crate::harness::{files_below, golden, http, now, poll, scratch};
use crate::mixed::compact_once;

/// An instant inside the second golden block of each replica.
const INSTANT: f64 = 1_767_234_600.0;

fn truncate(file: &Path, keep: u64) {
    let handle = std::fs::File::options().write(true).open(file).expect("open the file to break");
    handle.set_len(keep).expect("truncate it");
}

/// Flips one bit in every `every` bytes.
fn flip_bits(file: &Path, every: usize) {
    let mut bytes = std::fs::read(file).expect("read the file to break");
    bytes.iter_mut().skip(every / 2).step_by(every).for_each(|byte| *byte ^= 0x10);
    std::fs::write(file, bytes).expect("write it back");
}

fn size(file: &Path) -> u64 {
    std::fs::metadata(file).expect("the file is there").len()
}

/// A way to break a block folder.
type Damage = (&'static str, fn(&Path));

const DAMAGES: &[Damage] = &[
    ("a truncated index", |block| truncate(&block.join("index"), size(&block.join("index")) / 2)),
    ("an empty index", |block| truncate(&block.join("index"), 0)),
    ("flipped bits in the index", |block| flip_bits(&block.join("index"), 64)),
    ("a truncated chunk segment", |block| truncate(&block.join("chunks/000001"), 100)),
    ("flipped bits in the chunks", |block| flip_bits(&block.join("chunks/000001"), 64)),
    ("a missing chunk segment", |block| {
        std::fs::remove_file(block.join("chunks/000001")).expect("remove it")
    }),
    ("a truncated meta.json", |block| truncate(&block.join("meta.json"), 60)),
    ("flipped bits in meta.json", |block| flip_bits(&block.join("meta.json"), 40)),
];

/// The replicas, as `cluster-replica`, of which a querier finds float series at the instant, and
/// its warnings.
fn replicas_seen(querier: &Component) -> (Vec<String>, String) {
    // every float series, so that every broken chunk is read
    let query = "count by (cluster, replica) ({__name__=~\".+\", __name__!~\"rpc_.+|queue_.+\"})";
    let fields = [("query", query), ("time", &INSTANT.to_string())];
    let body = http::api(&querier.http, "/api/v1/query", &fields).expect("an answer");
    assert_eq!(body["status"], "success", "{body}");
    let label =
        |series: &Value, name: &str| series["metric"][name].as_str().unwrap_or_default().to_owned();
    let result = body["data"]["result"].as_array().expect("a vector");
    let seen = result
        .iter()
        .map(|series| format!("{}-{}", label(series, "cluster"), label(series, "replica")));
    (seen.collect(), body["warnings"].to_string())
}

#[test]
fn a_broken_block_is_named_and_all_others_are_served() {
    let Some(binaries) = binaries() else { return };
    let mut defects = Vec::new();
    for (what, damage) in DAMAGES {
        let folder = scratch();
        let bucket = Bucket::folder(folder.path());
        for replica in golden::REPLICAS {
            bucket.fill(&golden::raw(replica));
        }
        let broken =
            golden::raw("us-1")[1].file_name().expect("a block id").to_string_lossy().into_owned();
        damage(&bucket.path().join(&broken));
        let keys = bucket.keys();
        let args = store_args(folder.path(), &bucket.config);
        let store = Component::start(binaries, Maker::Drumlin, folder.path(), "store", &args);
        let querier = query(binaries, Maker::Drumlin, folder.path(), &[&store.grpc], &[]);
        let (seen, warnings) = replicas_seen(&querier);
        for replica in ["eu-0", "eu-1", "us-0"] {
            if !seen.contains(&replica.to_owned()) {
                defects.push(format!("{what}: {replica} is not served, only {seen:?}; {warnings}"));
            }
        }
        if !warnings.contains(&broken) && !store.process.log().contains(&broken) {
            defects.push(format!("{what}: neither {warnings} nor the log names {broken}"));
        }
        if bucket.keys() != keys {
            defects.push(format!("{what}: objects came or went"));
        }
    }
    assert!(defects.is_empty(), "{defects:#?}");
}

#[test]
fn a_compactor_leaves_a_broken_block_alone_and_goes_on_with_the_others() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let made = Blocks::write(&folder.path().join("made"), 41, 8, &["a", "b"]);
    let mut defects = Vec::new();
    for (what, damage) in DAMAGES {
        let folder = scratch();
        let bucket = Bucket::folder(folder.path());
        bucket.fill(&made.folders);
        let broken =
            made.folders[1].file_name().expect("a block id").to_string_lossy().into_owned();
        damage(&bucket.path().join(&broken));
        let left: Vec<PathBuf> = files_below(&bucket.path().join(&broken));
        let args = compact_args(folder.path(), &bucket.config);
        let mut compactor =
            Component::start_unready(binaries, Maker::Drumlin, folder.path(), "compact", &args);
        let status = compactor.process.wait(Duration::from_secs(120));
        let log = compactor.process.log();
        if status.code().is_none() || log.contains("panicked") {
            defects.push(format!("{what}: {status}\n{log}"));
        }
        if !log.contains(&broken) {
            defects.push(format!("{what}: the log does not name {broken}"));
        }
        let now = files_below(&bucket.path().join(&broken));
        if let Some(gone) = left.iter().find(|file| !now.contains(file)) {
            defects.push(format!("{what}: {} of the broken block is gone", gone.display()));
        }
        if now.iter().any(|file| file.ends_with("deletion-mark.json")) {
            defects.push(format!("{what}: the broken block is to be deleted"));
        }
        // replica b: 8 blocks of 2h become one of 8h and its rest
        let of_b =
            |id: &&String| made.folders[8..].iter().any(|block| block.ends_with(id.as_str()));
        let live = bucket.live_blocks();
        if live.iter().filter(of_b).count() == 8 {
            defects.push(format!("{what}: the other replica was not compacted"));
        }
    }
    assert!(defects.is_empty(), "{defects:#?}");
}

#[test]
fn a_broken_parquet_file_is_named_and_all_else_is_served() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let made = Blocks::write(&folder.path().join("made"), 42, 25, &["a", "b"]);
    let bucket = Bucket::folder(folder.path());
    bucket.fill(&made.folders);
    compact_once(binaries, Maker::Drumlin, folder.path(), &bucket, &[]);
    let time = made.end();
    let ask = |querier: &Component| {
        let query = "sum by (replica) (sum_over_time(up[50h]))";
        let fields =
            [("query", query), ("time", &time.to_string()), ("max_source_resolution", "5m")];
        http::api(&querier.http, "/api/v1/query", &fields).expect("an answer")
    };
    let sums = |body: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let result = body["data"]["result"].as_array().cloned().unwrap_or_default();
        result
            .iter()
            .map(|series| (text(&series["metric"]["replica"]), text(&series["value"][1])))
            .collect()
    };
    let start = |name: &str| {
        let folder = folder.path().join(name);
        let store = Component::start(
            binaries,
            Maker::Drumlin,
            &folder,
            "store",
            &store_args(&folder, &bucket.config),
        );
        let querier = query(binaries, Maker::Drumlin, &folder, &[&store.grpc], &[]);
        (store, querier)
    };
    let whole = {
        let (_store, querier) = start("whole");
        sums(&ask(&querier))
    };
    assert_eq!(whole.len(), 2, "both replicas: {whole:?}");

    let metas: Vec<PathBuf> = files_below(&bucket.path().join("parquet"));
    let replica = |file: &Path| {
        let meta = file.parent().expect("a folder").join("meta.json");
        let meta: Value =
            serde_json::from_slice(&std::fs::read(meta).expect("read meta.json")).expect("JSON");
        meta["thanos"]["labels"]["replica"].as_str().unwrap_or_default().to_owned()
    };
    let files = metas.iter().filter(|file| file.to_string_lossy().ends_with(".samples.parquet"));
    let victims: Vec<PathBuf> = files
        .map(|file| bucket.path().join("parquet").join(file))
        .filter(|file| replica(file) == "a")
        .collect();
    assert!(!victims.is_empty(), "no Parquet file of replica a: {metas:?}");
    for (what, damage) in [
        ("a truncated footer", (|file| truncate(file, size(file) - 20)) as fn(&Path)),
        ("flipped bits", |file| flip_bits(file, 100)),
    ] {
        let originals: Vec<Vec<u8>> =
            victims.iter().map(|file| std::fs::read(file).expect("read")).collect();
        victims.iter().for_each(|file| damage(file));
        let (store, querier) = start(what.rsplit(' ').next().unwrap_or_default());
        let body = ask(&querier);
        let seen = sums(&body);
        assert!(seen.contains(&whole[1]), "{what}: replica b as before: {body}");
        let said = format!("{}{}", body["warnings"], store.process.log());
        let named = victims.iter().any(|file| {
            let block =
                file.parent().and_then(Path::file_name).expect("a block id").to_string_lossy();
            said.contains(block.as_ref())
        });
        // served from finer data, or reported as missing; never a wrong number without a warning
        assert!(
            named || seen == whole,
            "{what}: {seen:?}, not {whole:?}, and nobody says why: {said}"
        );
        for (file, bytes) in victims.iter().zip(originals) {
            std::fs::write(file, bytes).expect("mend the file");
        }
    }
}

/// A sidecar is as ready as its Prometheus is.
#[test]
fn a_sidecar_follows_its_prometheus_down_and_up_again() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let mut prometheus = golden_prometheus(binaries, folder.path());
    prometheus.stop();
    let mut args = sidecar_args(&prometheus, None);
    args.extend([
        "--prometheus.get_config_interval=1s".to_owned(),
        "--prometheus.get_config_timeout=1s".to_owned(),
    ]);
    let mut sidecar =
        Component::start_unready(binaries, Maker::Drumlin, folder.path(), "sidecar", &args);
    sidecar.process.wait_ready(&format!("{}/-/healthy", sidecar.http));
    let ready = format!("{}/-/ready", sidecar.http);
    assert_eq!(http::get(&ready).expect("an answer").code, 503, "ready without Prometheus");
    prometheus.resume();
    sidecar.process.wait_ready(&ready);
    let querier = query(binaries, Maker::Drumlin, folder.path(), &[&sidecar.grpc], &[]);
    let answered = || -> anyhow::Result<()> {
        let found = http::instant(&querier.http, "up", INSTANT)?;
        ensure!(!found.is_empty(), "nothing found");
        Ok(())
    };
    answered().expect("an answer through the sidecar");

    let up = |value: &str| {
        let line = format!("thanos_sidecar_prometheus_up {value}");
        poll(&line, Duration::from_secs(60), || {
            let metrics = sidecar.metrics();
            ensure!(metrics.lines().any(|l| l == line), "not yet");
            Ok(())
        });
    };
    prometheus.stop();
    up("0");
    let down = http::get(&ready).expect("an answer").code;
    assert_eq!(down, 503, "ready while Prometheus is down");
    prometheus.resume();
    up("1");
    sidecar.process.wait_ready(&ready);
    poll("answers come again", Duration::from_secs(30), answered);
}

/// Two golden replicas behind two endpoints, one of which hangs: the other's data is returned, with
/// a warning.
#[test]
fn an_endpoint_that_hangs_costs_its_own_data_only() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let stores = ["eu-0", "us-0"].map(|replica| {
        let folder = folder.path().join(replica);
        std::fs::create_dir_all(&folder).expect("a folder");
        let bucket = Bucket::folder(&folder);
        bucket.fill(&golden::raw(replica));
        Component::start(
            binaries,
            Maker::Drumlin,
            &folder,
            "store",
            &store_args(&folder, &bucket.config),
        )
    });
    let endpoints = [stores[0].grpc.as_str(), stores[1].grpc.as_str()];
    let querier = query(binaries, Maker::Drumlin, folder.path(), &endpoints, &[]);
    let ask = |partial: &str| {
        let time = INSTANT.to_string();
        let fields = [
            ("query", "count by (cluster) (up)"),
            ("time", &time),
            ("timeout", "3s"),
            ("partial_response", partial),
        ];
        let fields: Vec<(String, String)> =
            fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let started = now();
        let answer =
            http::post_form(&format!("{}/api/v1/query", querier.http), &fields).expect("an answer");
        (answer, started.elapsed())
    };
    assert_eq!(
        ask("true").0.json().expect("JSON")["data"]["result"].as_array().map(Vec::len),
        Some(2)
    );

    stores[1].process.pause(true);
    let (answer, took) = ask("true");
    let body = answer.json().expect("JSON");
    assert!(took < Duration::from_secs(10), "took {took:?}: {body}");
    assert_eq!(body["status"], "success", "{body}");
    assert_eq!(body["data"]["result"][0]["metric"]["cluster"], "eu", "{body}");
    assert!(
        body["warnings"].to_string().contains(&stores[1].grpc),
        "no warning names the endpoint: {body}"
    );
    assert_eq!(answer.header("cache-control"), "no-store", "a partial answer must not be cached");
    let (answer, took) = ask("false");
    assert!(took < Duration::from_secs(10), "took {took:?}");
    assert_ne!(answer.code, 200, "without partial answers it fails: {}", answer.text());
    assert!(
        answer.text().contains(&stores[1].grpc),
        "the error names the endpoint: {}",
        answer.text()
    );

    stores[1].process.pause(false);
    poll("both answer again", Duration::from_secs(60), || {
        let body = ask("true").0.json()?;
        ensure!(body["data"]["result"].as_array().is_some_and(|r| r.len() == 2), "{body}");
        Ok(())
    });
}

/// An endpoint that accepts connections and never answers does not keep the querier from being
/// ready.
#[test]
fn an_endpoint_that_never_speaks_does_not_stop_a_querier() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let prometheus = golden_prometheus(binaries, folder.path());
    let args = sidecar_args(&prometheus, None);
    let sidecar = Component::start(binaries, Maker::Drumlin, folder.path(), "sidecar", &args);
    let mute = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let args = [sidecar.grpc.clone(), mute.local_addr().expect("an address").to_string()];
    let args: Vec<String> = args.iter().map(|address| format!("--endpoint={address}")).collect();
    let querier = Component::start(binaries, Maker::Drumlin, folder.path(), "query", &args);
    poll("the other endpoint answers", Duration::from_secs(30), || {
        ensure!(!http::instant(&querier.http, "up", INSTANT)?.is_empty(), "nothing");
        Ok(())
    });
}

/// A Prometheus that is paused: the query ends, and works again when Prometheus does.
#[test]
fn a_prometheus_that_hangs_ends_no_querier() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let prometheus = golden_prometheus(binaries, folder.path());
    let sidecar = Component::start(
        binaries,
        Maker::Drumlin,
        folder.path(),
        "sidecar",
        &sidecar_args(&prometheus, None),
    );
    let querier = query(binaries, Maker::Drumlin, folder.path(), &[&sidecar.grpc], &[]);
    prometheus.pause(true);
    let started = now();
    let time = INSTANT.to_string();
    let fields = [("query", "up"), ("time", &time), ("timeout", "2s")];
    let body = http::api(&querier.http, "/api/v1/query", &fields).expect("an answer");
    assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
    let said = body["status"] == "error" || !body["warnings"].is_null();
    assert!(said, "an answer without data and without a word: {body}");
    prometheus.pause(false);
    poll("it answers again", Duration::from_secs(60), || {
        ensure!(!http::instant(&querier.http, "up", INSTANT)?.is_empty(), "nothing");
        Ok(())
    });
}

fn drumlin(binaries: &Binaries, args: &[&str]) -> Finished {
    run(&binaries.drumlin, args)
}

#[test]
fn wrong_words_at_start_are_named_with_the_nearest_right_one() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let config = |name: &str, text: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("write the file");
        format!("--objstore.config-file={}", file.display())
    };
    let typo = config("typo.yml", "type: S3\nconfig:\n  bukcet: blocks\n  endpoint: localhost:1\n");
    let kind = config("kind.yml", "type: S4\nconfig:\n  bucket: blocks\n");
    let other = config("other.yml", "type: SWIFT\nconfig: {}\n");
    let broken = config("broken.yml", "type: [S3\n");
    let certificate = config(
        "certificate.yml",
        "type: S3\nconfig:\n  bucket: b\n  endpoint: localhost:1\n  http_config:\n    \
         tls_config:\n      cert_file: /c\n      key_file: /k\n",
    );
    let fine = config(
        "fine.yml",
        &format!("type: FILESYSTEM\nconfig:\n  directory: {}\n", folder.path().display()),
    );
    let address = "--http-address=127.0.0.1:0";
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["sidecar", "--promtheus.url=http://localhost:1"],
            &["--promtheus.url", "--prometheus.url"],
        ),
        (
            &["store", "--sync-block-durations=1s"],
            &["--sync-block-durations", "--sync-block-duration"],
        ),
        (
            &["query", "--query.replica-lable=replica"],
            &["--query.replica-lable", "--query.replica-label"],
        ),
        (
            &["compact", "--retention.resolution-row=1d"],
            &["--retention.resolution-row", "--retention.resolution-raw"],
        ),
        (&["querry"], &["querry", "query"]),
        (&["query", "--query.timeout=soon"], &["--query.timeout", "soon"]),
        (
            &["query", "--deduplication.func=best", address],
            &["--deduplication.func", "best", "penalty"],
        ),
        (&["store", address, &typo], &["bukcet", "bucket"]),
        (&["store", address, &kind], &["S4", "S3"]),
        (&["store", address, &other], &["SWIFT", "not supported"]),
        (&["store", address, &broken], &["YAML"]),
        (&["store", address, &certificate], &["cert_file"]),
        (
            &["store", address, "--objstore.config-file=/nowhere/objstore.yml"],
            &["/nowhere/objstore.yml"],
        ),
        (
            &["compact", address, &fine, "--retention.resolution-raw=1d"],
            &["--retention.resolution-raw", "40h"],
        ),
        (
            &["compact", address, &fine, "--retention.resolution-5m=2d"],
            &["--retention.resolution-5m", "10d"],
        ),
    ];
    let mut defects = Vec::new();
    for (args, words) in cases {
        let ended = drumlin(binaries, args);
        let said = format!("{}{}", ended.output, ended.errors);
        if ended.status.success() {
            defects.push(format!("{args:?} was accepted"));
        }
        defects.extend(
            words
                .iter()
                .filter(|word| !said.contains(**word))
                .map(|word| format!("{args:?}: no {word:?} in: {said}")),
        );
    }
    assert!(defects.is_empty(), "{defects:#?}");
}

/// Without external labels nobody could tell whose blocks they are.
#[test]
fn a_sidecar_refuses_a_prometheus_without_external_labels() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let prometheus = Prometheus::start(
        binaries,
        &folder.path().join("prometheus"),
        &PrometheusSettings::default(),
    );
    let args = sidecar_args(&prometheus, None);
    let mut sidecar =
        Component::start_unready(binaries, Maker::Drumlin, folder.path(), "sidecar", &args);
    let status = sidecar.process.wait(Duration::from_secs(60));
    let log = sidecar.process.log();
    assert!(!status.success(), "accepted: {log}");
    assert!(log.contains("external_labels"), "does not say what to add: {log}");
}

/// Compares with what a real Prometheus says to the same request.
#[test]
fn bad_requests_get_the_words_of_prometheus() {
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let prometheus = golden_prometheus(binaries, folder.path());
    let sidecar = Component::start(
        binaries,
        Maker::Drumlin,
        folder.path(),
        "sidecar",
        &sidecar_args(&prometheus, None),
    );
    let querier = query(binaries, Maker::Drumlin, folder.path(), &[&sidecar.grpc], &[]);
    let texts = [
        "",
        "(",
        ")",
        "up{job}",
        "up{job=}",
        "up{job=\"a\"",
        "up{job=~\"*\"}",
        "{}",
        "{job=~\".*\"}",
        "1 +",
        "+ 1 2",
        "sum(up",
        "sum by job (up)",
        "sum up",
        "rate(up[5m)",
        "rate(up[5x])",
        "up[5m:",
        "up offset 5m offset 5m",
        "up @ foo",
        "a and on() b or",
        "1 == 2",
        "1 unless 2",
        "up == bool",
        "sum(1)",
        "abs()",
        "abs(up, up)",
        "histogram_quantile(up, up)",
        "label_replace(up, \"a\", \"b\", \"c\")",
        "up on (job) up",
        "time(1)",
        "count_values(1, up)",
        "quantile(\"a\", up)",
        "up * on (job) group_left up * 1 [5m]",
        "\"unterminated",
        "'bad \\q escape'",
        "0x",
        "1e",
        "up{__name__=\"up\"}",
        "sum without (a,,b) (up)",
        "é",
        "up{é=\"1\"}",
    ];
    let mut requests: Vec<(&str, Vec<(&str, &str)>)> = texts
        .iter()
        .map(|text| ("/api/v1/query", vec![("query", *text), ("time", "1767234600")]))
        .collect();
    let range =
        |start, end, step| vec![("query", "up"), ("start", start), ("end", end), ("step", step)];
    requests.extend([
        ("/api/v1/query", vec![]),
        ("/api/v1/query", vec![("query", "up"), ("time", "yesterday")]),
        ("/api/v1/query", vec![("query", "up"), ("timeout", "soon")]),
        ("/api/v1/query_range", range("1767229200", "1767236400", "0")),
        ("/api/v1/query_range", range("1767229200", "1767236400", "-1")),
        ("/api/v1/query_range", range("1767229200", "1767236400", "x")),
        ("/api/v1/query_range", range("1767236400", "1767229200", "60")),
        ("/api/v1/query_range", range("x", "1767236400", "60")),
        ("/api/v1/query_range", range("1767229200", "x", "60")),
        ("/api/v1/query_range", range("1767139200", "1767236400", "1")),
        ("/api/v1/series", vec![("match[]", "up{")]),
        ("/api/v1/series", vec![("match[]", "{job=~\".*\"}")]),
        ("/api/v1/labels", vec![("match[]", "(")]),
        ("/api/v1/labels", vec![("start", "x")]),
        ("/api/v1/label/job/values", vec![("match[]", "rate(up[5m])")]),
    ]);
    let mut defects = Vec::new();
    for (path, fields) in &requests {
        let fields: Vec<(String, String)> =
            fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let ask = |base: &str| {
            let answer =
                http::get(&format!("{base}{path}?{}", http::encode(&fields))).expect("an answer");
            let body = answer.json().unwrap_or(Value::Null);
            let said = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
            (answer.code, said("status"), said("errorType"), said("error"))
        };
        let (want, got) = (ask(&prometheus.url), ask(&querier.http));
        if want != got {
            defects.push(format!("{path} {fields:?}:\n   {got:?}, not\n   {want:?}"));
        }
    }
    assert!(defects.is_empty(), "{} of {}:\n{}", defects.len(), requests.len(), defects.join("\n"));

    let missing = http::get(&format!("{}/api/v1/nonsense", querier.http)).expect("an answer");
    assert_eq!(missing.code, 404);
    assert_eq!(missing.json().expect("JSON even then")["status"], "error", "{}", missing.text());
}
