//! A server on a raw socket that answers as it is told, also what no server should.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// `POST /write?db=home`.
    pub(crate) head: String,
    /// In lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) lines: Vec<String>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

pub(crate) enum Reaction {
    /// Status, further headers, body.
    Answer(u16, &'static str, String),
    /// These bytes, then the end of the connection.
    Raw(&'static str),
    /// A byte now and then, for ever.
    Drip,
    /// Not a word, until the other side goes.
    Silence,
    /// These bytes, then the connection is reset.
    Reset(&'static str),
    /// That one, after a while.
    Late(Duration, Box<Reaction>),
}

pub(crate) fn answer(status: u16, body: impl Into<String>) -> Reaction {
    Reaction::Answer(status, "", body.into())
}

pub(crate) struct Fake {
    pub(crate) url: String,
    requests: Arc<Mutex<Vec<Request>>>,
    _tasks: JoinSet<()>,
}

type Behaviour = dyn FnMut(&Request) -> Reaction + Send;

impl Fake {
    pub(crate) async fn start(behaviour: impl FnMut(&Request) -> Reaction + Send + 'static) -> Self {
        Self::start_on("127.0.0.1:0", usize::MAX, behaviour).await
    }

    /// Above `body_limit` the connection is cut before the body was read, without an answer.
    pub(crate) async fn start_on(
        address: &str,
        body_limit: usize,
        behaviour: impl FnMut(&Request) -> Reaction + Send + 'static,
    ) -> Self {
        Self::start_at(TcpListener::bind(address).await.unwrap(), body_limit, behaviour)
    }

    /// Called on a runtime.
    pub(crate) fn start_at(
        listener: TcpListener,
        body_limit: usize,
        behaviour: impl FnMut(&Request) -> Reaction + Send + 'static,
    ) -> Self {
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let behaviour: Arc<Mutex<Behaviour>> = Arc::new(Mutex::new(behaviour));
        let mut tasks = JoinSet::new();
        let seen = Arc::clone(&requests);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, body_limit, Arc::clone(&seen), Arc::clone(&behaviour)));
            }
        });
        Self { url, requests, _tasks: tasks }
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// What it says of itself, whatever it does with points: no InfluxDB of a known version, and no bucket that forgets.
fn about_itself(head: &str) -> Option<&'static str> {
    let path = head.strip_prefix("GET ")?.split('?').next()?;
    ["/ping", "/api/v2/buckets"].iter().any(|own| path.ends_with(own)).then_some("HTTP/1.1 204 No Content\r\n\r\n")
}

async fn serve(
    mut stream: TcpStream,
    body_limit: usize,
    seen: Arc<Mutex<Vec<Request>>>,
    behaviour: Arc<Mutex<Behaviour>>,
) {
    let mut buffer = Vec::new();
    loop {
        let Some(request) = read_request(&mut stream, &mut buffer, body_limit).await else { return };
        if let Some(said) = about_itself(&request.head) {
            if stream.write_all(said.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        let mut reaction = behaviour.lock().unwrap()(&request);
        seen.lock().unwrap().push(request);
        while let Reaction::Late(time, then) = reaction {
            tokio::time::sleep(time).await;
            reaction = *then;
        }
        match reaction {
            Reaction::Late(..) => unreachable!("its time has passed"),
            Reaction::Reset(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
                let _ = stream.set_zero_linger();
                return;
            }
            Reaction::Silence => {
                while read_more(&mut stream, &mut buffer).await.is_some() {}
                return;
            }
            Reaction::Answer(status, headers, body) => {
                let length = if status == 204 { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
                let text = format!("HTTP/1.1 {status} X\r\n{headers}{length}\r\n{body}");
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            Reaction::Raw(text) => {
                let _ = stream.write_all(text.as_bytes()).await;
                return;
            }
            Reaction::Drip => {
                let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nX-Slow: ").await;
                while stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                return;
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>, body_limit: usize) -> Option<Request> {
    let head_end = loop {
        if let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
        read_more(stream, buffer).await?;
    };
    let text = String::from_utf8(buffer.drain(..head_end + 4).collect()).unwrap();
    let mut lines = text.lines();
    let head = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut request = Request { head, headers, lines: Vec::new() };
    let length: usize = request.header("content-length").map_or(0, |value| value.parse().unwrap());
    if length > body_limit {
        return None;
    }
    while buffer.len() < length {
        read_more(stream, buffer).await?;
    }
    let body: Vec<u8> = buffer.drain(..length).collect();
    let body = if request.header("content-encoding") == Some("gzip") { unpacked(&body) } else { body };
    request.lines = String::from_utf8(body).unwrap().lines().map(str::to_owned).collect();
    Some(request)
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}

fn unpacked(gzip: &[u8]) -> Vec<u8> {
    let size = u32::from_le_bytes(gzip[gzip.len() - 4..].try_into().unwrap());
    let mut plain = vec![0; size as usize];
    libdeflater::Decompressor::new().gzip_decompress(gzip, &mut plain).unwrap();
    plain
}
