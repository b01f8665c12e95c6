//! A database behind HTTP: finds out what it is, then writes in its own dialect.

use std::time::{Duration, Instant};

use bytes::Bytes;
use url::Url;

use crate::config::settings::{self, Api, Compression};
use crate::model::record::Batch;

use super::compress::Gzip;
use super::detect::{self, Decision, Known};
use super::http::{Answered, Client, Failure};
use super::limits::{self, Limits, Oldest};
use super::reply::Reply;
use super::request::Requests;
use super::{Answer, Dialect, Fault, OpenError, Sent};

/// So long what a server said of its limits is believed.
const ASK_AGAIN: Duration = Duration::from_mins(10);

/// Nobody says how long points are kept.
#[derive(Debug)]
pub(super) struct NoAnswer;

/// A body below this fits one packet whatever is done to it.
const PLAIN_BYTES: usize = 1024;

pub struct Server {
    client: Client,
    requests: Requests,
    /// Host and port, for people. No name, no password.
    place: String,
    gzip: Option<Gzip>,
    /// `None`: the server is asked, and asked again when it behaves like another one.
    fixed: Option<Dialect>,
    known: Option<Known>,
    /// What the server that was reached last does not take, and when it said so. `None`: it is asked.
    limits: Option<(Limits, Instant)>,
    /// Of InfluxDB 2.
    bucket: String,
}

impl Server {
    pub(super) fn open(server: &settings::Server, delivery: &settings::Delivery) -> Result<Self, OpenError> {
        Ok(Self {
            client: Client::new(&server.tls, delivery.request_timeout)?,
            requests: Requests::to(server)?,
            place: place(&server.url),
            gzip: (delivery.compression == Compression::Gzip).then(Gzip::new),
            fixed: match server.api {
                Api::Auto => None,
                Api::V1 => Some(Dialect::V1),
                Api::V2 => Some(Dialect::V2),
                Api::V3 => Some(Dialect::V3),
            },
            known: None,
            limits: None,
            bucket: if server.bucket.is_empty() { server.database.clone() } else { server.bucket.clone() },
        })
    }

    pub(super) fn describe(&self) -> String {
        match (&self.known, self.fixed) {
            (Some(known), _) => format!("{} (api {})", known.name, known.dialect.label()),
            (None, Some(dialect)) => format!("api {}", dialect.label()),
            (None, None) => "a server that was not reached yet".to_owned(),
        }
    }

    pub(super) async fn send(&mut self, batch: &Batch) -> Sent {
        let dialect = match self.dialect().await {
            Ok(dialect) => dialect,
            Err(answer) => return Sent { answer, bytes: 0, unfit: Vec::new() },
        };
        let fit = match self.limits(dialect).await {
            Ok(limits) => limits.fit(batch),
            Err(answer) => return Sent { answer, bytes: 0, unfit: Vec::new() },
        };
        let (lines, unfit) = fit.map_or((None, Vec::new()), |fit| (Some(fit.body), fit.unfit));
        if unfit.len() == batch.len() {
            return Sent { answer: Answer::NoneFit, bytes: 0, unfit };
        }
        let (body, gzip) = self.body(lines.as_deref().unwrap_or(batch.bytes()));
        let bytes = body.len() as u64;
        let answer = match self.client.send(self.requests.write(dialect, body, gzip)).await {
            Ok(answered) => Answer::Reply(reply(dialect, answered)),
            Err(failure) => self.no_answer(failure),
        };
        // What is away, or does not know the path, may be another server when it is back.
        let may_be_another = match &answer {
            Answer::Nothing { fault, .. } => *fault != Fault::TimedOut,
            Answer::Reply(reply) => matches!(reply.status, 404 | 405),
            _ => false,
        };
        if may_be_another {
            self.known = None;
            self.limits = None;
        }
        Sent { answer, bytes, unfit }
    }

    /// What the server does not take, as far as it says so. It is asked when it is reached anew, and now and then: somebody may
    /// have changed it. Whoever cannot be asked now is asked with the next batch.
    async fn limits(&mut self, dialect: Dialect) -> Result<Limits, Answer> {
        if let Some((limits, _)) = self.limits.filter(|(_, said)| said.elapsed() < ASK_AGAIN) {
            return Ok(limits);
        }
        let is_victoria_metrics = match (&self.known, dialect) {
            (Some(known), _) => known.name == detect::VICTORIA_METRICS,
            // The options name the API, and VictoriaMetrics has it too.
            (None, Dialect::V1 | Dialect::V2) => {
                match self.client.send(self.requests.ping()).await.map_err(|failure| self.no_answer(failure)) {
                    Ok(ping) => detect::is_victoria_metrics(&ping),
                    // A proxy may let nothing but writes pass.
                    Err(Answer::Nothing { fault: Fault::Broken | Fault::NotHttp | Fault::Other, .. }) => {
                        return Ok(Limits::default());
                    }
                    Err(answer) => return Err(answer),
                }
            }
            (None, Dialect::V3) => false,
        };
        let mut limits = Limits { numbers_only: is_victoria_metrics, oldest: None };
        if let Ok(kept) = self.kept(dialect, is_victoria_metrics).await {
            limits.oldest = kept;
            self.limits = Some((limits, Instant::now()));
        }
        Ok(limits)
    }

    /// What it does not keep, and would drop without a word, by its own clock. InfluxDB 1 and 3 say so when it happens.
    ///
    /// # Errors
    /// It does not answer now.
    pub(super) async fn kept(&self, dialect: Dialect, is_victoria_metrics: bool) -> Result<Option<Oldest>, NoAnswer> {
        let request = match dialect {
            _ if is_victoria_metrics => self.requests.flags(),
            Dialect::V2 => self.requests.buckets(),
            Dialect::V1 | Dialect::V3 => return Ok(None),
        };
        let Ok(answered) = self.client.send(request).await else { return Err(NoAnswer) };
        if answered.status >= 500 {
            return Err(NoAnswer);
        }
        let kept = if is_victoria_metrics {
            limits::kept_by_flags(&String::from_utf8_lossy(&answered.body))
        } else {
            limits::kept_by_buckets(&answered.body, &self.bucket)
        };
        // Ours may be another clock than the one by which points are dropped.
        let date = answered.headers.get(hyper::header::DATE).and_then(|date| date.to_str().ok());
        let now = date.and_then(|date| httpdate::parse_http_date(date).ok());
        Ok(now.zip(kept).and_then(|(now, kept)| Oldest::at(now, kept)))
    }

    /// What the server is; asks if that is not known yet.
    pub(super) async fn dialect(&mut self) -> Result<Dialect, Answer> {
        match (self.fixed, &self.known) {
            (Some(dialect), _) => Ok(dialect),
            (None, Some(known)) => Ok(known.dialect),
            (None, None) => {
                let known = self.ask().await?;
                let dialect = known.dialect;
                self.known = Some(known);
                Ok(dialect)
            }
        }
    }

    /// What is there, whatever the options call it, and whether it is VictoriaMetrics: that one is read in another way.
    pub(super) async fn identify(&mut self) -> Result<(Dialect, bool), Answer> {
        match (self.ask().await, self.fixed) {
            (Ok(known), fixed) => {
                let found = (fixed.unwrap_or(known.dialect), known.name == detect::VICTORIA_METRICS);
                self.known = Some(known);
                Ok(found)
            }
            (Err(Answer::NotRecognised(_)), Some(dialect)) => Ok((dialect, false)),
            (Err(answer), _) => Err(answer),
        }
    }

    /// A write of nothing: whether a write would be let in.
    pub(super) async fn write_nothing(&self, dialect: Dialect) -> Result<Reply, Answer> {
        let request = self.requests.write(dialect, Bytes::new(), false);
        Ok(reply(dialect, self.client.send(request).await.map_err(|failure| self.no_answer(failure))?))
    }

    async fn ask(&self) -> Result<Known, Answer> {
        let ping = self.client.send(self.requests.ping()).await.map_err(|failure| self.no_answer(failure))?;
        let decision = match detect::by_ping(&ping) {
            Some(decision) => decision,
            None => {
                let health = self.client.send(self.requests.health()).await;
                detect::by_health(&health.map_err(|failure| self.no_answer(failure))?)
            }
        };
        match decision {
            Decision::Is(known) => Ok(known),
            Decision::NotReady(status) => {
                let details = format!("it answered {status} when it was asked what it is");
                Err(self.no_answer(Failure::Nothing { fault: Fault::NotReady, words: details }))
            }
            Decision::Unknown(words) => Err(Answer::NotRecognised(words)),
        }
    }

    fn body(&mut self, lines: &[u8]) -> (Bytes, bool) {
        match &mut self.gzip {
            Some(gzip) if lines.len() >= PLAIN_BYTES => (Bytes::copy_from_slice(gzip.member(lines)), true),
            _ => (Bytes::copy_from_slice(lines), false),
        }
    }

    pub(super) fn no_answer(&self, failure: Failure) -> Answer {
        match failure {
            Failure::CutOffWhileSending => Answer::CutOffWhileSending,
            Failure::Nothing { fault, words } => Answer::Nothing { fault, words: fault.words(&self.place, &words) },
        }
    }
}

fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port_or_known_default().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

fn reply(dialect: Dialect, answered: Answered) -> Reply {
    let retry_after = answered.headers.get(hyper::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    Reply { dialect, status: answered.status, retry_after: retry_after.map(str::to_owned), body: answered.body }
}
