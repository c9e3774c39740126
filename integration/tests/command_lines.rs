//! Public command lines of Thanos, run as they stand by us and, where both have the subcommand, by
//! Thanos. Only addresses, files and folders are replaced.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::ensure;
use testkit::Authority;

use crate::harness::binaries::{Binaries, binaries};
use crate::harness::fleet::{Maker, Prometheus, PrometheusSettings, external_labels};
use crate::harness::process::{Process, START_LIMIT, free_port};
use crate::harness::{http, now, scratch};

const LINES: &str = include_str!("command_lines/lines.txt");

/// What must hold of a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Expected {
    Ready,
    Done,
    /// It ends with an error that has this text.
    Refused(String),
    /// Ours ends with an error that has this text; Thanos becomes ready.
    NotYet(String),
    /// The subcommand does not exist here; the error names it.
    Missing(String),
}

#[derive(Clone, Debug)]
struct Record {
    source: String,
    expected: Expected,
    words: Vec<String>,
}

fn records() -> Vec<Record> {
    let text: Vec<&str> = LINES.lines().filter(|line| !line.starts_with('#')).collect();
    text.split(|line| line.is_empty()).filter(|lines| !lines.is_empty()).map(record).collect()
}

fn record(lines: &[&str]) -> Record {
    let field = |at: usize, name: &str| {
        lines[at].strip_prefix(name).unwrap_or_else(|| panic!("{name} in {lines:?}")).to_owned()
    };
    let text = field(1, "expect: ");
    let (kind, rest) = text.split_once(' ').unwrap_or((&text, ""));
    let expected = match kind {
        "ready" => Expected::Ready,
        "done" => Expected::Done,
        "refused" => Expected::Refused(rest.to_owned()),
        "not-yet" => Expected::NotYet(rest.to_owned()),
        "missing" => Expected::Missing(rest.to_owned()),
        other => panic!("what is expected: {other}"),
    };
    let mut words: Vec<String> = Vec::new();
    for line in &lines[2..] {
        match line.strip_prefix("| ") {
            Some(more) => {
                let word = words.last_mut().expect("a word before what continues it");
                if !word.ends_with('=') {
                    word.push('\n');
                }
                word.push_str(more);
            }
            None => words.push((*line).to_owned()),
        }
    }
    Record { source: field(0, "source: "), expected, words }
}

/// Where the files of a command line are in a test.
struct Place {
    folder: PathBuf,
    prometheus_url: String,
    prometheus_data: PathBuf,
}

impl Place {
    fn write(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, text).expect("write a file of the command line");
        path.display().to_string()
    }

    fn dir(&self, name: &str) -> String {
        let path = self.folder.join(name);
        std::fs::create_dir_all(&path).expect("a folder of the command line");
        path.display().to_string()
    }

    fn objstore(&self) -> String {
        format!("type: FILESYSTEM\nconfig:\n  directory: {}\n", self.dir("bucket"))
    }

    /// What stands for a value on this machine.
    fn value(&self, flag: &str, value: &str) -> String {
        match flag {
            "http-address" | "grpc-address" => format!("127.0.0.1:{}", free_port()),
            "prometheus.url" => self.prometheus_url.clone(),
            "tsdb.path" => self.prometheus_data.display().to_string(),
            "data-dir" => self.dir("data"),
            "objstore.config-file" => self.write("objstore.yml", &self.objstore()),
            "objstore.config" => value.replace("$(OBJSTORE_CONFIG)", &self.objstore()),
            "tracing.config-file" | "http.config" | "request.logging-config-file" => {
                self.write(&format!("{flag}.yml"), "")
            }
            "reloader.config-file" => self.write("prometheus.yml.tmpl", "global: {}\n"),
            "reloader.config-envsubst-file" => self.folder.join("out.yml").display().to_string(),
            "reloader.rule-dir" => self.dir("rules"),
            "store.sd-files" => self.write("endpoints.yml", "[]\n"),
            "grpc-server-tls-cert" | "grpc-client-tls-cert" => {
                self.folder.join("cert.pem").display().to_string()
            }
            "grpc-server-tls-key" | "grpc-client-tls-key" => {
                self.folder.join("key.pem").display().to_string()
            }
            "grpc-server-tls-client-ca" | "grpc-client-tls-ca" => {
                self.folder.join("ca.pem").display().to_string()
            }
            _ => value.to_owned(),
        }
    }

    /// The words as they are run, and where HTTP will be served.
    fn command(&self, words: &[String]) -> PlacedCommand {
        let mut placed = Vec::new();
        let mut http = String::new();
        let mut flag_before: Option<&str> = None;
        for word in words {
            let flag = word.strip_prefix("--");
            let (flag, value) = match (flag_before.take(), flag.and_then(|f| f.split_once('='))) {
                (Some(flag), _) if !word.starts_with("--") => (flag, word.as_str()),
                (_, Some((flag, value))) => (flag, value),
                _ => {
                    flag_before = flag;
                    placed.push(word.clone());
                    continue;
                }
            };
            let value = self.value(flag, value);
            if flag == "http-address" {
                http.clone_from(&value);
            }
            let separate = !word.starts_with("--");
            placed.push(if separate { value } else { format!("--{flag}={value}") });
        }
        for flag in ["http-address", "grpc-address"] {
            let is_given = words.iter().any(|word| word.starts_with(&format!("--{flag}")));
            let has_no_grpc = flag == "grpc-address" && words[0] == "compact";
            if !(is_given || has_no_grpc) {
                let address = self.value(flag, "");
                if flag == "http-address" {
                    http.clone_from(&address);
                }
                placed.push(format!("--{flag}={address}"));
            }
        }
        PlacedCommand { words: placed, http }
    }
}

struct PlacedCommand {
    words: Vec<String>,
    http: String,
}

fn write_certificates(place: &Place) {
    let authority = Authority::new("test");
    let pair = authority.issue(&["localhost"]);
    place.write("ca.pem", &authority.pem());
    place.write("cert.pem", &pair.cert);
    place.write("key.pem", &pair.key);
}

/// Runs a record; what did not hold.
fn run_one(binaries: &Binaries, maker: Maker, record: &Record, place: &Place) -> Option<String> {
    let PlacedCommand { words, http } = place.command(&record.words);
    let program = maker.program(binaries);
    let expected = match (&record.expected, maker) {
        (Expected::NotYet(_), Maker::Thanos) => &Expected::Ready,
        (expected, _) => expected,
    };
    match expected {
        Expected::Ready => {
            let mut process = Process::start("line", &program, &place.folder, &words);
            becomes_ready(&mut process, &http).err().map(|e| format!("{e:#}\n{}", process.log()))
        }
        Expected::Done => {
            let mut process = Process::start("line", &program, &place.folder, &words);
            let status = process.wait(START_LIMIT);
            (!status.success()).then(|| format!("{status}\n{}", process.log()))
        }
        Expected::Refused(text) | Expected::NotYet(text) | Expected::Missing(text) => {
            let output = Command::new(&program).args(&words).output().expect("it can be started");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            // Thanos refuses it in words of its own
            let explains = maker == Maker::Thanos || said.contains(text.as_str());
            (output.status.success() || !explains).then_some(said)
        }
    }
}

fn becomes_ready(process: &mut Process, http: &str) -> anyhow::Result<()> {
    let deadline = now() + Duration::from_secs(30);
    loop {
        if let Some(status) = process.ended() {
            anyhow::bail!("it ended: {status}");
        }
        match http::get(&format!("http://{http}/-/ready")) {
            Ok(answer) if answer.code == 200 => return Ok(()),
            _ => ensure!(now() < deadline, "not ready in time"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn prometheus(binaries: &Binaries, folder: &Path) -> Prometheus {
    let settings = PrometheusSettings {
        external_labels: external_labels(&[("cluster", "eu"), ("replica", "0")]),
        ..PrometheusSettings::default()
    };
    Prometheus::start(binaries, folder, &settings)
}

/// Runs a record by everyone who has the subcommand; what did not hold.
fn run_by_all(binaries: &Binaries, record: &Record, place: impl Fn(Maker) -> Place) -> Vec<String> {
    let makers = match record.expected {
        Expected::Missing(_) => &[Maker::Drumlin][..],
        _ => &[Maker::Drumlin, Maker::Thanos],
    };
    let mut failed = Vec::new();
    for maker in makers {
        let place = place(*maker);
        std::fs::create_dir_all(&place.folder).expect("a folder of its own");
        write_certificates(&place);
        if let Some(why) = run_one(binaries, *maker, record, &place) {
            failed.push(format!("{maker:?}: {}: {why}", record.source));
        }
    }
    failed
}

#[test]
fn public_command_lines_run_as_they_stand() {
    const AT_A_TIME: usize = 4;
    let Some(binaries) = binaries() else { return };
    let folder = scratch();
    let prometheus = prometheus(binaries, &folder.path().join("prometheus"));
    let records = records();
    assert_eq!(records.len(), 42);
    let place = |number: usize, maker: Maker| Place {
        folder: folder.path().join(format!("{number}-{maker:?}")),
        prometheus_url: prometheus.url.clone(),
        prometheus_data: prometheus.data.clone(),
    };
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(record) = records.get(number) else { return };
            let found = run_by_all(binaries, record, |maker| place(number, maker));
            failed.lock().expect("no worker panicked").extend(found);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(work);
        }
    });
    let missing = records.iter().filter(|r| matches!(r.expected, Expected::Missing(_))).count();
    println!("{} command lines run, {missing} subcommands are not there", records.len() - missing);
    let failed = failed.into_inner().expect("no worker panicked");
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}
