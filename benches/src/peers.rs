//! Go's engines for PromQL, each a process that reads queries and times them.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::engine::{Line, MeasuredRun};

/// How the program in `integration/peers/engines` is built.
const BUILDS: [(&str, &[&str]); 2] = [
    ("prometheus", &[]),
    ("promql-engine", &["-modfile=promql-engine.mod", "-tags", "promql_engine"]),
];

/// A running engine; it is killed when this is dropped.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Starts all of them on a folder of blocks. `place` is the folder of their binaries, or `build`.
pub(crate) fn start(place: &str, blocks: &Path, threads: usize) -> Result<Vec<Peer>> {
    let folder = if place == "build" { build()? } else { PathBuf::from(place) };
    BUILDS.iter().map(|(name, _)| Peer::start(name, &folder, blocks, threads)).collect()
}

fn file_name(name: &str) -> String {
    format!("engine-{name}")
}

fn build() -> Result<PathBuf> {
    let module =
        Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("integration").join("peers/engines");
    // beside the folder of this binary's profile, like the peers of the integration tests
    let own = std::env::current_exe()?;
    let folder =
        own.ancestors().nth(2).context("this binary lies in no target folder")?.join("peers");
    for (name, flags) in BUILDS {
        let binary = folder.join(file_name(name));
        let status = Command::new("go")
            .args(["build", "-o"])
            .arg(&binary)
            .args(flags)
            .arg(".")
            .current_dir(&module)
            .status();
        let status = status.context("run go")?;
        ensure!(status.success(), "go build of {name} ended with {status}");
    }
    Ok(folder)
}

impl Peer {
    fn start(name: &'static str, folder: &Path, blocks: &Path, threads: usize) -> Result<Peer> {
        let binary = folder.join(file_name(name));
        let mut command = Command::new(&binary);
        command
            .arg(blocks)
            .env("GOMAXPROCS", threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {}", binary.display()))?;
        let (questions, answers) = (child.stdin.take(), child.stdout.take());
        let questions = questions.context("no standard input")?;
        let answers = BufReader::new(answers.context("no standard output")?);
        Ok(Peer { name, child, questions, answers })
    }

    pub(crate) fn run(&mut self, line: &Line) -> Result<MeasuredRun> {
        writeln!(self.questions, "{} {} {} {}", line.start, line.end, line.step, line.text)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let answer: serde_json::Value = serde_json::from_str(&answer)
            .with_context(|| format!("{} gave no answer", self.name))?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{}: {}: {error}", self.name, line.text);
        }
        let number = |field: &str| {
            answer[field].as_f64().with_context(|| format!("{}: no {field}", self.name))
        };
        Ok(MeasuredRun {
            ms: number("ms")?,
            cpu_ms: number("cpu_ms")?,
            points: number("points")? as usize,
            sum: number("sum")?,
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // it may have ended by itself
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
