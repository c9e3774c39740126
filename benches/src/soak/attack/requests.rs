//! Requests that want too much.

use std::time::Duration;

use testkit::hostile::{HostileCall, HostileForm};
use wire::thanos::store_client::StoreClient;

use super::{Callers, Notes, Paths, callers};
use crate::soak::scene::{Process, Running};

/// How many send a form or a call at the same time.
const CALLERS: usize = 4;

/// How long a caller stays that leaves.
const STAYS: Duration = Duration::from_millis(50);

/// What a process may answer that has other things to do as well.
const BUSY: [u16; 2] = [422, 503];

pub(super) async fn send_form(
    running: &Running,
    form: &HostileForm,
    until: Duration,
    notes: &Notes,
) {
    let several = Callers { count: CALLERS, until, least: form.paths.len() };
    callers(several, async |number| {
        let path = form.paths[number % form.paths.len()];
        let request = running
            .client
            .post(running.url(path))
            .header("content-type", "application/x-www-form-urlencoded")
            .body((form.body)());
        match request.send().await {
            Ok(response) => {
                let status = response.status().as_u16();
                // the answer is read, as a caller would
                let _ = response.bytes().await;
                notes.answer(status);
                if status != form.status && !BUSY.contains(&status) {
                    notes.wrong(format!("{path}: status {status}, expected {}", form.status));
                }
            }
            Err(e) => notes.answer(e.without_url()),
        }
    })
    .await;
}

pub(super) async fn call(running: &Running, call: &HostileCall, until: Duration, notes: &Notes) {
    let several = Callers { count: CALLERS, until, least: running.processes.len() };
    callers(several, async |number| {
        let process = &running.processes[number % running.processes.len()];
        match series(process, call).await {
            Ok(()) => notes.wrong(format!("{} did not refuse it", process.name)),
            Err(status) => notes.answer(format!("{:?}", status.code())),
        }
    })
    .await;
}

async fn series(process: &Process, call: &HostileCall) -> Result<(), tonic::Status> {
    let address = format!("http://127.0.0.1:{}", process.grpc);
    let unreachable = |e| tonic::Status::unavailable(format!("{e:?}"));
    let mut client = StoreClient::connect(address).await.map_err(unreachable)?;
    let mut frames = client.series((call.message)()).await?.into_inner();
    while frames.message().await?.is_some() {}
    Ok(())
}

pub(super) async fn ask(running: &Running, asked: &Paths, until: Duration, notes: &Notes) {
    callers(asked.callers(until), async |number| {
        let path = &asked.paths[number % asked.paths.len()];
        notes.answer(get(running, path).await);
    })
    .await;
}

pub(super) async fn leave(running: &Running, asked: &Paths, until: Duration, notes: &Notes) {
    callers(asked.callers(until), async |number| {
        let path = &asked.paths[number % asked.paths.len()];
        let stayed = tokio::time::timeout(STAYS, get(running, path)).await;
        notes.answer(stayed.unwrap_or_else(|_| "left".to_owned()));
    })
    .await;
}

/// The status, once all of the answer has come.
async fn get(running: &Running, path: &str) -> String {
    let answer = async {
        let mut response = running.client.get(running.url(path)).send().await?;
        while response.chunk().await?.is_some() {}
        Ok::<_, reqwest::Error>(response.status().as_u16().to_string())
    };
    answer.await.unwrap_or_else(|e| match e.is_timeout() {
        true => "timeout".to_owned(),
        false => "broken off".to_owned(),
    })
}
