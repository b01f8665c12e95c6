//! A real database, started for one test on a free port of this machine and ended with it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

/// The program that `variable` names, or the one in `target/peers/bin`.
///
/// `None`, with a line on the terminal that no test runner hides, if there is none. In CI that is a failure.
pub(crate) fn find(variable: &str, name: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable)
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/bin").join(name), PathBuf::from);
    if path.is_file() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is missing, and CI must have it", path.display());
    writeln!(std::io::stderr(), "SKIPPED: no {name} at {}; {variable} can name one", path.display()).ok();
    None
}

/// A port that was free a moment ago.
pub(crate) fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("this machine has free ports");
    listener.local_addr().expect("a bound listener has an address")
}

impl Server {
    /// Starts the program and waits until it answers at `path`.
    pub(crate) fn start(command: &mut Command, address: SocketAddr, path: &str) -> Self {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program can be started");
        let mut server = Self { child, address };
        for _ in 0..300 {
            if server.try_request("GET", path, "").is_ok_and(|(status, _)| status < 300) {
                return server;
            }
            if let Some(status) = server.child.try_wait().expect("the child is ours") {
                panic!("the server ended by itself: {status}");
            }
            // The server says in no other way that it is ready.
            std::thread::park_timeout(Duration::from_millis(100));
        }
        panic!("the server did not answer within 30 s");
    }

    /// Status and body of the answer.
    pub(crate) fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.try_request(method, path, body).expect("the server answers")
    }

    /// HTTP 1.0: the answer ends with the connection and is never in chunks.
    fn try_request(&self, method: &str, path: &str, body: &str) -> std::io::Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_mins(1)))?;
        let length = body.len();
        let content_type = "application/x-www-form-urlencoded";
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n{body}"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok((status.ok_or(std::io::ErrorKind::InvalidData)?, body.to_owned()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
