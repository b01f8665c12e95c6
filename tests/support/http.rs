//! Just enough of an HTTP client for a test: blocking, one request per connection.
//!
//! It speaks HTTP/1.0, so that no server answers in chunks or keeps the connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Long, because a service of Home Assistant answers when it is done.
const PATIENCE: Duration = Duration::from_mins(3);

/// The header of a body that [`form`] made.
pub(crate) const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Response {
    /// The body of a success.
    pub(crate) fn json(&self) -> Value {
        assert!(matches!(self.status, 200..300), "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

pub(crate) fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
    send(address, "GET", path, headers, "")
}

pub(crate) fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], body: &str) -> io::Result<Response> {
    send(address, "POST", path, headers, body)
}

#[allow(dead_code, reason = "not every test binary needs it")]
pub(crate) fn delete(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> io::Result<Response> {
    send(address, "DELETE", path, headers, "")
}

/// Fields as a form or a query string has them.
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

fn send(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.extend(["\r\n", body]);
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    parse(&String::from_utf8_lossy(&answer))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("no HTTP answer to {method} {path}")))
}

fn parse(answer: &str) -> Option<Response> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(Response { status, body: body.to_owned() })
}
