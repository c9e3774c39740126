//! Connections of clients that do not keep their part, to every process.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use testkit::hostile::{HostileClient, Port};

use super::Notes;
use crate::measure::clock;
use crate::soak::scene::Running;

/// To each process.
const CONNECTIONS: usize = 200;

/// The pause between two bytes that drip.
const DRIP: Duration = Duration::from_millis(20);

/// Keeps connections up, and opens new ones where the process has closed them.
pub(super) async fn hold(
    running: &Running,
    client: &HostileClient,
    until: Duration,
    notes: &Notes,
) {
    let ports = running.processes.iter().map(|p| match client.port {
        Port::Http => p.http,
        Port::Grpc => p.grpc,
    });
    let addresses: Vec<SocketAddr> =
        ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect();
    let client = client.clone();
    let held = tokio::task::spawn_blocking(move || hold_until(&addresses, &client, until)).await;
    let (opened, closed) = held.unwrap_or_default();
    let mut tally = notes.tally();
    tally.answers.extend([("opened".to_owned(), opened), ("closed".to_owned(), closed)]);
}

/// How many connections were opened, and how many of them the process closed.
fn hold_until(addresses: &[SocketAddr], client: &HostileClient, until: Duration) -> (usize, usize) {
    let clock = clock();
    let mut held: Vec<Option<TcpStream>> = Vec::new();
    held.resize_with(addresses.len() * CONNECTIONS, || None);
    let (mut opened, mut closed) = (0, 0);
    loop {
        for (at, slot) in held.iter_mut().enumerate() {
            if slot.is_none() {
                *slot = open(addresses[at % addresses.len()], client);
                opened += usize::from(slot.is_some());
            }
            if slot.as_mut().is_some_and(|stream| !goes_on(stream, client)) {
                *slot = None;
                closed += 1;
            }
        }
        if clock.monotonic() >= until {
            return (opened, closed);
        }
        std::thread::sleep(DRIP);
    }
}

fn open(address: SocketAddr, client: &HostileClient) -> Option<TcpStream> {
    let stream = client.connect(address).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

/// Whether the connection still stands.
fn goes_on(stream: &mut TcpStream, client: &HostileClient) -> bool {
    let waits = |e: std::io::Error| e.kind() == ErrorKind::WouldBlock;
    if let Some(byte) = client.drips
        && !stream.write(&[byte]).map_or_else(waits, |_| true)
    {
        return false;
    }
    !client.reads || stream.read(&mut [0; 4096]).map_or_else(waits, |taken| taken > 0)
}
