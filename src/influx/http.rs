//! A small HTTP client: one request, one answer, one deadline.
//!
//! HTTP/1.1 with connections kept alive, no redirects (a write that is redirected becomes a read), and never more than
//! 64 KiB of an answer. The client of the `influxdb2` crate is not used for writes: it hides the headers of an answer,
//! where `Retry-After` is, and loses the path of a URL.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::{HeaderMap, Request, Response};
use hyper_tls::HttpsConnector;
use hyper_tls::native_tls;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::config::settings::Tls;
use crate::net;

use super::{Fault, OpenError};

/// What is read of an answer. The longest that says something are lists of refused lines.
const BODY_BYTES: usize = 64 * 1024;

/// The longest line of an answer that is read line by line.
const LINE_BYTES: usize = 16 * 1024 * 1024;

/// Shorter than any server's or proxy's own: a connection that both sides think of differently costs a failed write.
/// Apache and Node close theirs after 5 seconds.
const IDLE: Duration = Duration::from_secs(4);

/// Up to here a body is in the socket's buffers before the server can object, and its answer is read.
const SMALL_BODY_BYTES: u64 = 64 * 1024;

/// An answer that comes in pieces may take so many times as long as one of them.
const PIECES: u32 = 5;

pub(super) struct Client {
    inner: legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    deadline: Duration,
}

#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

#[derive(Debug)]
pub(super) enum Failure {
    CutOffWhileSending,
    Nothing { fault: Fault, words: String },
}

/// Why an answer was not read to its end.
#[derive(Debug)]
pub(super) enum Interrupted {
    Failed(Failure),
    /// A line is not what was expected.
    Unreadable(String),
}

impl From<Failure> for Interrupted {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Client {
    /// `deadline`: for one request, from connecting to the last byte of the answer.
    pub(super) fn new(tls: &Tls, deadline: Duration) -> Result<Self, OpenError> {
        let https = HttpsConnector::from((net::connect::connector(), net::tls::connector(tls)?.into()));
        let inner = legacy::Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(https);
        Ok(Self { inner, deadline })
    }

    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answered, Failure> {
        let body_bytes = request.body().size_hint().lower();
        let exchange = async {
            let response = self.inner.request(request).await.map_err(|err| failure(&err, body_bytes))?;
            read(response).await.map_err(|err| failure(&err, 0))
        };
        match tokio::time::timeout(self.deadline, exchange).await {
            Ok(answered) => answered,
            Err(_) => Err(Failure::Nothing {
                fault: Fault::TimedOut,
                words: format!("no full answer within {} s", self.deadline.as_secs_f32()),
            }),
        }
    }

    /// Hands the answer on line by line, as it comes; of an answer that is no success the beginning is returned. The
    /// deadline is for each piece of it; all of it may take [`PIECES`] times as long, so that one that never ends does end.
    pub(super) async fn lines(
        &self,
        request: Request<Full<Bytes>>,
        each: &mut (dyn FnMut(&[u8]) -> Result<(), String> + Send),
    ) -> Result<Answered, Interrupted> {
        let all = self.deadline * PIECES;
        let too_long = || Failure::Nothing {
            fault: Fault::TimedOut,
            words: format!("its answer did not end within {} s", all.as_secs_f32()),
        };
        tokio::time::timeout(all, self.pieces(request, each)).await.unwrap_or_else(|_| Err(too_long().into()))
    }

    async fn pieces(
        &self,
        request: Request<Full<Bytes>>,
        each: &mut (dyn FnMut(&[u8]) -> Result<(), String> + Send),
    ) -> Result<Answered, Interrupted> {
        let response = self.in_time(self.inner.request(request)).await?.map_err(|err| failure(&err, 0))?;
        if !response.status().is_success() {
            return Ok(self.in_time(read(response)).await?.map_err(|err| failure(&err, 0))?);
        }
        let (head, mut incoming) = response.into_parts();
        let mut begun = Vec::new();
        while let Some(frame) = self.in_time(incoming.frame()).await? {
            let frame = frame.map_err(|err| failure(&err, 0))?;
            let Some(bytes) = frame.data_ref() else { continue };
            let Some(last) = bytes.iter().rposition(|byte| *byte == b'\n') else {
                begun.extend_from_slice(bytes);
                if begun.len() > LINE_BYTES {
                    return Err(Interrupted::Unreadable(format!("a line has more than {LINE_BYTES} bytes")));
                }
                continue;
            };
            begun.extend_from_slice(&bytes[..last]);
            for line in begun.split(|byte| *byte == b'\n') {
                each(line).map_err(Interrupted::Unreadable)?;
            }
            begun.clear();
            begun.extend_from_slice(&bytes[last + 1..]);
        }
        if !begun.is_empty() {
            each(&begun).map_err(Interrupted::Unreadable)?;
        }
        Ok(Answered { status: head.status.as_u16(), headers: head.headers, body: Vec::new() })
    }

    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::time::timeout(self.deadline, work).await.map_err(|_| Failure::Nothing {
            fault: Fault::TimedOut,
            words: format!("nothing came for {} s", self.deadline.as_secs_f32()),
        })
    }
}

async fn read(response: Response<Incoming>) -> Result<Answered, hyper::Error> {
    let (head, mut incoming) = response.into_parts();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        if let Some(bytes) = frame?.data_ref() {
            body.extend_from_slice(&bytes[..bytes.len().min(BODY_BYTES - body.len())]);
        }
        // Dropped before its end, the body takes its connection with it.
        if body.len() == BODY_BYTES {
            break;
        }
    }
    Ok(Answered { status: head.status.as_u16(), headers: head.headers, body })
}

/// Finds the cause in the chain of errors: the outer ones only say that something failed.
fn failure(error: &(dyn StdError + 'static), body_bytes: u64) -> Failure {
    let chain = || std::iter::successors(Some(error), |outer| StdError::source(*outer));
    let io_kind = chain().filter_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind).last();
    let innermost = chain().last().map_or_else(String::new, ToString::to_string);
    let is_hyper = |test: fn(&hyper::Error) -> bool| chain().filter_map(|e| e.downcast_ref::<hyper::Error>()).any(test);

    let broken = matches!(io_kind, Some(io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset))
        || is_hyper(hyper::Error::is_incomplete_message);
    let fault = match io_kind {
        _ if broken && body_bytes > SMALL_BODY_BYTES => return Failure::CutOffWhileSending,
        _ if broken => Fault::Broken,
        Some(io::ErrorKind::ConnectionRefused) => Fault::Refused,
        Some(io::ErrorKind::TimedOut) => Fault::TimedOut,
        Some(io::ErrorKind::UnexpectedEof) => Fault::Broken,
        _ if chain().any(<dyn StdError>::is::<native_tls::Error>) => Fault::Tls,
        // The connector has no type for it that can be named.
        _ if chain().any(|error| error.to_string() == "dns error") => Fault::NoSuchHost,
        _ if is_hyper(hyper::Error::is_parse) => Fault::NotHttp,
        _ => Fault::Other,
    };
    Failure::Nothing { fault, words: innermost }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::Request;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;
    use tokio::time::{sleep, timeout};

    use super::{Client, Failure, Interrupted};
    use crate::config::settings::Tls;
    use crate::influx::Fault;

    /// Each piece of it comes in time, and there is always another one.
    #[tokio::test]
    async fn an_answer_that_never_ends_meets_a_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The question comes first.
            let _ = stream.read(&mut [0; 1_024]).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n").await.unwrap();
            while stream.write_all(b"a line\n").await.is_ok() {
                sleep(Duration::from_millis(10)).await;
            }
        });
        let client = Client::new(&Tls { verify: true, ca_certificate: None }, Duration::from_millis(100)).unwrap();
        let request = Request::get(url).body(Full::new(Bytes::new())).unwrap();
        let mut lines = 0;
        let mut count = |_: &[u8]| {
            lines += 1;
            Ok(())
        };
        let ended = timeout(Duration::from_secs(20), client.lines(request, &mut count)).await.expect("it ends");
        let Err(Interrupted::Failed(Failure::Nothing { fault: Fault::TimedOut, words })) = ended else {
            panic!("it had no end")
        };
        assert_eq!(words, "its answer did not end within 0.5 s");
        assert!(lines > 5, "{lines}");
    }
}
