//! `healthcheck`: asks the running service whether it is alive, for the health check of a container.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use super::Exit;
use crate::config::settings::Place;

const PATIENCE: Duration = Duration::from_secs(5);

#[expect(clippy::print_stdout, reason = "the answer of a command")]
pub(super) fn run(place: &Place) -> Exit {
    match ask(reachable(place.listen)) {
        Ok(status) if status.contains(" 200 ") => {
            println!("live");
            Exit::Done
        }
        Ok(status) => {
            println!("not live: {status}");
            Exit::Unavailable
        }
        Err(err) => {
            println!("no answer on {}: {err}", place.listen);
            Exit::Unavailable
        }
    }
}

/// A listener on all addresses is asked on this machine's own.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = if listen.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { listen.ip() };
    SocketAddr::new(ip, listen.port())
}

/// The status line of the answer. One request without a client library: the check runs every few seconds as a process
/// of its own.
fn ask(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = [0; 64];
    let length = stream.read(&mut answer)?;
    let text = String::from_utf8_lossy(&answer[..length]).into_owned();
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
