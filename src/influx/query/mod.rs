//! Reads back what a target holds: which series have points at which times.
//!
//! Values are not looked at. Each kind of server is asked in its own language, and every answer is read line by line, so
//! that memory holds the times and not the answer. The readers of the lines are pure: `v1`, `v2`, `v3`,
//! `victoria_metrics`; an `archive` is read from its files.

mod archive;
mod retention;
mod v1;
mod v2;
mod v3;
mod victoria_metrics;

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request};

use super::http::{Answered, Client, Interrupted};
use super::limits::Oldest;
use super::probe::why_not;
use super::reply::Reply;
use super::request::{OUR_NAME, address, basic, header, token, version_1_token};
use super::server::{NoAnswer, Server};
use super::{Dialect, OpenError};
use crate::config::settings::{self, Delivery};
use crate::line::read::Series;
use crate::model::time::Timestamp;

/// How long a server may be silent. A question about cold data takes many seconds.
const PATIENCE: Duration = Duration::from_mins(2);
/// Names in one question: requests have a longest size, and servers a most complicated statement.
const MOST_NAMES: usize = 50;
/// What is found is kept in memory. Nobody has so many points of so short a time.
const MOST_POINTS: usize = 20_000_000;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// Which points are asked for: those with at least one of these fields.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    /// Measurement and field.
    pub fields: &'a BTreeSet<(String, String)>,
    pub from: Timestamp,
    /// Exclusive.
    pub until: Timestamp,
}

/// The times of the points in nanoseconds, ascending, each once.
pub type Found = HashMap<Series, Vec<i64>>;

/// Why it is not known what a target holds. In words that say what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ReadError(String);

/// Reads from one target.
pub enum Reader {
    Server(Box<ServerReader>),
    Archive(PathBuf),
}

pub struct ServerReader {
    settings: settings::Server,
    server: Server,
    client: Client,
    kind: Option<Kind>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    V1,
    V2,
    V3,
    VictoriaMetrics,
}

impl Reader {
    /// Connects nowhere.
    pub fn open(target: &settings::Target, delivery: &Delivery) -> Result<Self, OpenError> {
        Ok(match target {
            settings::Target::Server(settings) => Self::Server(Box::new(ServerReader {
                settings: settings.clone(),
                server: Server::open(settings, delivery)?,
                client: Client::new(&settings.tls, PATIENCE)?,
                kind: None,
            })),
            settings::Target::Archive(folder) => Self::Archive(folder.clone()),
        })
    }

    /// Finds out what is there. To be called before anything else.
    pub async fn connect(&mut self) -> Result<(), ReadError> {
        let Self::Server(reader) = self else { return Ok(()) };
        let known = reader.server.identify().await.map_err(|answer| ReadError(why_not(&answer)))?;
        reader.kind = Some(match known {
            (_, true) => Kind::VictoriaMetrics,
            (Dialect::V1, false) => Kind::V1,
            (Dialect::V2, false) => Kind::V2,
            (Dialect::V3, false) => Kind::V3,
        });
        Ok(())
    }

    /// What it is, for people: `InfluxDB 1.6.7 (api v1)`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Server(reader) => reader.server.describe(),
            Self::Archive(folder) => format!("an archive in {}", folder.display()),
        }
    }

    /// Whether texts are not kept, times are kept to the millisecond, and a tag `db` is none of ours.
    #[must_use]
    pub fn keeps_numbers_only(&self) -> bool {
        matches!(self, Self::Server(reader) if reader.kind == Some(Kind::VictoriaMetrics))
    }

    /// What was written a moment ago is found from now on.
    pub async fn settle(&mut self) {
        if let Self::Server(reader) = self
            && reader.kind == Some(Kind::VictoriaMetrics)
            && let Ok(request) = reader.request(Kind::V1, Method::GET, "internal/force_flush", &[], String::new(), FORM)
        {
            // Where it is not allowed, a moment later is as good.
            let _flushed = reader.client.send(request).await;
        }
    }

    /// What is older than this the target does not keep, if it says so. `None`: everything is kept, or nobody knows. `now`: our
    /// clock, where a server does not tell its own.
    pub async fn oldest(&mut self, now: Timestamp) -> Result<Option<Timestamp>, ReadError> {
        let of_ours = |kept: Duration| {
            let kept = i64::try_from(kept.as_micros()).unwrap_or(i64::MAX);
            Timestamp::from_micros(now.as_micros().saturating_sub(kept))
        };
        let told = |oldest: Result<Option<Oldest>, NoAnswer>| oldest.ok().flatten().map(|oldest| oldest.now());
        match self {
            Self::Server(reader) => match reader.kind {
                Some(Kind::V1) => Ok(reader.retention().await?.map(of_ours)),
                Some(Kind::V2) => Ok(told(reader.server.kept(Dialect::V2, false).await)),
                Some(Kind::VictoriaMetrics) => Ok(told(reader.server.kept(Dialect::V1, true).await)),
                Some(Kind::V3) | None => Ok(None),
            },
            Self::Archive(_) => Ok(None),
        }
    }

    pub async fn find(&mut self, question: &Question<'_>) -> Result<Found, ReadError> {
        let mut found = Found::new();
        match self {
            Self::Server(reader) => reader.find(question, &mut found).await?,
            Self::Archive(folder) => found = archive::find(folder.clone(), question).await?,
        }
        for times in found.values_mut() {
            times.sort_unstable();
            times.dedup();
        }
        Ok(found)
    }
}

impl ServerReader {
    async fn find(&mut self, question: &Question<'_>, found: &mut Found) -> Result<(), ReadError> {
        let all: Vec<&(String, String)> = question.fields.iter().collect();
        for fields in all.chunks(MOST_NAMES) {
            match self.kind {
                Some(Kind::V1) => self.find_v1(fields, question, found).await?,
                Some(Kind::V2) => self.find_v2(fields, question, found).await?,
                Some(Kind::V3) => self.find_v3(fields, question, found).await?,
                Some(Kind::VictoriaMetrics) => self.find_victoria_metrics(fields, question, found).await?,
                None => return Err(ReadError("nobody asked what the server is".to_owned())),
            }
            if found.values().map(Vec::len).sum::<usize>() > MOST_POINTS {
                return Err(ReadError(format!("it holds more than {MOST_POINTS} points of one time")));
            }
        }
        Ok(())
    }

    async fn find_v1(
        &self,
        fields: &[&(String, String)],
        asked: &Question<'_>,
        found: &mut Found,
    ) -> Result<(), ReadError> {
        let statements = v1::statements(fields, self.settings.retention_policy.as_deref(), asked.from, asked.until);
        self.query_v1(&statements, &mut |line| v1::read(line, found)).await
    }

    async fn retention(&self) -> Result<Option<Duration>, ReadError> {
        let statement = format!("SHOW RETENTION POLICIES ON {}", v1::identifier(&self.settings.database));
        let wanted = self.settings.retention_policy.as_deref();
        let mut kept = None;
        self.query_v1(&statement, &mut |line| retention::read(line, wanted, &mut kept)).await?;
        Ok(kept)
    }

    async fn query_v1(&self, statements: &str, each: Each<'_>) -> Result<(), ReadError> {
        let form = form(&[("db", &self.settings.database), ("epoch", "ns"), ("chunked", "true"), ("q", statements)]);
        let request = self.request(Kind::V1, Method::POST, "query", &[], form, FORM)?;
        self.ask(Dialect::V1, request, each).await
    }

    async fn find_v2(
        &self,
        fields: &[&(String, String)],
        asked: &Question<'_>,
        found: &mut Found,
    ) -> Result<(), ReadError> {
        let bucket = if self.settings.bucket.is_empty() { &self.settings.database } else { &self.settings.bucket };
        let body = v2::body(bucket, fields, asked.from, asked.until);
        let organization: Vec<(&str, &str)> =
            self.settings.organization.iter().map(|name| ("org", name.as_str())).collect();
        let request = self.request(Kind::V2, Method::POST, "api/v2/query", &organization, body, JSON)?;
        let mut table = v2::Table::default();
        self.ask(Dialect::V2, request, &mut |line| table.read(line, found)).await?;
        table.finish().map_err(|words| unreadable(&words))
    }

    async fn find_v3(
        &self,
        fields: &[&(String, String)],
        asked: &Question<'_>,
        found: &mut Found,
    ) -> Result<(), ReadError> {
        let mut columns = v3::Columns::default();
        let names: BTreeSet<&str> = fields.iter().map(|(measurement, _)| measurement.as_str()).collect();
        self.query_v3(v3::columns(&names), &mut |line| columns.read(line)).await?;
        for measurement in names {
            let wanted = fields.iter().filter(|(name, _)| name == measurement).map(|(_, field)| field.as_str());
            if let Some(sql) = columns.select(measurement, wanted, asked.from, asked.until) {
                self.query_v3(sql, &mut |line| v3::read(line, measurement, found)).await?;
            }
        }
        Ok(())
    }

    async fn query_v3(&self, sql: String, each: Each<'_>) -> Result<(), ReadError> {
        let body = serde_json::json!({"db": self.settings.database, "q": sql, "format": "jsonl"}).to_string();
        let request = self.request(Kind::V3, Method::POST, "api/v3/query_sql", &[], body, JSON)?;
        self.ask(Dialect::V3, request, each).await
    }

    async fn find_victoria_metrics(
        &self,
        fields: &[&(String, String)],
        asked: &Question<'_>,
        found: &mut Found,
    ) -> Result<(), ReadError> {
        let names = victoria_metrics::Names::of(fields);
        let form = names.question(asked.from, asked.until);
        let request = self.request(Kind::VictoriaMetrics, Method::POST, "api/v1/export", &[], form, FORM)?;
        let database = &self.settings.database;
        self.ask(Dialect::V1, request, &mut |line| names.read(line, database, found)).await
    }

    async fn ask(&self, dialect: Dialect, request: Request<Full<Bytes>>, each: Each<'_>) -> Result<(), ReadError> {
        match self.client.lines(request, each).await {
            Ok(Answered { status: 200..=299, .. }) => Ok(()),
            Ok(Answered { status, body, .. }) => {
                let words = Reply { dialect, status, retry_after: None, body }.words();
                let advice = match status {
                    401 | 403 => {
                        ": the credentials may not read: check influxdb.token, influxdb.username and \
                                  influxdb.password"
                    }
                    _ => "",
                };
                Err(ReadError(format!("the server answers a question with {status}: {words}{advice}")))
            }
            Err(Interrupted::Failed(failure)) => Err(ReadError(why_not(&self.server.no_answer(failure)))),
            Err(Interrupted::Unreadable(words)) => Err(unreadable(&words)),
        }
    }

    fn request(
        &self,
        kind: Kind,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: String,
        content: &'static str,
    ) -> Result<Request<Full<Bytes>>, ReadError> {
        let server = &self.settings;
        let said = match kind {
            Kind::V1 | Kind::VictoriaMetrics => basic(server).or_else(|| token("Token", server)),
            Kind::V2 => token("Token", server).or_else(|| version_1_token(server)),
            Kind::V3 => token("Bearer", server).or_else(|| basic(server)),
        };
        let unusable = |err: OpenError| ReadError(err.to_string());
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = address(&server.url, path, query).map_err(unusable)?;
        let headers = request.headers_mut();
        headers.insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
        if let Some(said) = header(said).map_err(unusable)? {
            headers.insert(AUTHORIZATION, said);
        }
        Ok(request)
    }
}

fn unreadable(words: &str) -> ReadError {
    ReadError(format!("the server's answer cannot be read: {words}"))
}

type Each<'a> = &'a mut (dyn FnMut(&[u8]) -> Result<(), String> + Send);

fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}
