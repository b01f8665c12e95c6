//! Where the lines go: an InfluxDB of any age, whatever else speaks its write API, or a folder of files.
//!
//! A target takes a batch and says what it was answered. It does not judge the answer and it never tries twice:
//! `deliver` does.

pub mod archived;
mod compress;
mod detect;
pub mod file;
mod http;
mod limits;
pub mod probe;
pub mod query;
pub mod reply;
mod request;
mod server;

use std::io;

use crate::config::settings;
use crate::model::fate::Rejection;
use crate::model::record::Batch;
use crate::net::tls::TlsError;

use self::file::Archive;
use self::reply::Reply;
use self::server::Server;

/// Each record of a batch is one line of line protocol with its line end.
pub enum Target {
    Server(Server),
    Archive(Archive),
}

/// The write APIs there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `/write` of InfluxDB 1.x. VictoriaMetrics speaks it too.
    V1,
    /// `/api/v2/write` of InfluxDB 2.x and InfluxDB Cloud.
    V2,
    /// `/api/v3/write_lp` of InfluxDB 3.
    V3,
}

impl Dialect {
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V3 => "v3",
        }
    }
}

/// What came back for one batch, and how many bytes of body went out for it.
#[derive(Debug)]
pub struct Sent {
    pub answer: Answer,
    pub bytes: u64,
    /// Lines that were not sent because the server would not keep them: their places in the batch, in order.
    pub unfit: Vec<(usize, Rejection)>,
}

#[derive(Debug)]
pub enum Answer {
    /// The server answered in full, or at least with as much of a body as we read.
    Reply(Reply),
    /// The connection broke while a large body was on its way: so do servers that find it too large.
    CutOffWhileSending,
    /// Nobody answered, or not in full. Whether the lines were stored is not known. `words`: who, why, and what to do.
    Nothing { fault: Fault, words: String },
    /// Something answered that is no database we know; one sentence for people.
    NotRecognised(String),
    /// The lines are in the archive.
    Filed,
    /// None of the lines was sent.
    NoneFit,
    /// The archive's disk said no.
    Disk { kind: io::ErrorKind, words: String },
}

/// The host of the InfluxDB add-on, which is where we look for a database unless we are told.
const ADD_ON: &str = "a0d7b954-influxdb:";

/// Advice as it reads for this target: all of it is worded for `influxdb`, and a mirror has the same options in a place
/// of its own.
#[must_use]
pub fn in_options_of(name: &str, words: &str) -> String {
    match name.strip_prefix("mirror_") {
        Some(number) => words.replace("influxdb.", &format!("mirrors.{number}.")),
        None => words.to_owned(),
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The name is not known to the resolver.
    NoSuchHost,
    Refused,
    TimedOut,
    Tls,
    /// The connection ended before the answer did.
    Broken,
    /// What came is not HTTP.
    NotHttp,
    /// The server says that it is not ready.
    NotReady,
    Other,
}

impl Fault {
    /// Who did not answer, why, and what to do. `place`: host and port. `details`: what the system says.
    fn words(self, place: &str, details: &str) -> String {
        match self {
            Self::NoSuchHost if place.starts_with(ADD_ON) => {
                format!(
                    "cannot reach {place}: the host name is not known: install the InfluxDB add-on or set influxdb.url"
                )
            }
            Self::NoSuchHost => {
                format!("cannot reach {place}: the host name is not known: check the host name in influxdb.url")
            }
            Self::Refused => format!(
                "cannot reach {place}: nothing listens there: check the port in influxdb.url, and that the database runs"
            ),
            Self::TimedOut => {
                format!("{place}: no answer in time: {details}: check the address in influxdb.url, and firewalls")
            }
            Self::Tls => format!(
                "{place}: no secure connection: {details}: check influxdb.ca_certificate and influxdb.verify_tls, and \
                 http or https in influxdb.url"
            ),
            Self::Broken => {
                format!("{place}: the connection broke: {details}: check http or https and the port in influxdb.url")
            }
            Self::NotHttp => {
                format!("{place}: the answer is not HTTP: {details}: check http or https and the port in influxdb.url")
            }
            Self::NotReady => format!("{place}: the server is not ready: {details}: it may still be starting"),
            Self::Other => format!("{place}: the request failed: {details}: check influxdb.url"),
        }
    }
}

/// Why a target cannot be used at all, whatever the network does.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the {0} holds a character that no HTTP header can carry")]
    BadCredential(&'static str),
    #[error("the address cannot be used in a request")]
    BadAddress,
}

/// Why one of the targets cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {source}")]
pub struct UnusableTarget {
    name: String,
    source: OpenError,
}

impl OpenError {
    /// `name`: the target's.
    #[must_use]
    pub fn of(self, name: &str) -> UnusableTarget {
        UnusableTarget { name: name.to_owned(), source: self }
    }
}

impl Target {
    /// Connects nowhere: the first batch does.
    pub fn open(target: &settings::Target, delivery: &settings::Delivery) -> Result<Self, OpenError> {
        Ok(match target {
            settings::Target::Server(server) => Self::Server(Server::open(server, delivery)?),
            settings::Target::Archive(folder) => Self::Archive(Archive::new(folder.clone(), delivery.request_timeout)),
        })
    }

    pub async fn send(&mut self, batch: &Batch) -> Sent {
        match self {
            Self::Server(server) => server.send(batch).await,
            Self::Archive(archive) => archive.send(batch).await,
        }
    }

    /// What it is, for people: `InfluxDB 1.6.7 (api v1)`.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Server(server) => server.describe(),
            Self::Archive(archive) => archive.describe(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Fault;

    #[test]
    fn who_finds_no_database_learns_where_and_what_to_do() {
        let words = |place| Fault::NoSuchHost.words(place, "Name or service not known");
        assert_eq!(
            words("a0d7b954-influxdb:8086"),
            "cannot reach a0d7b954-influxdb:8086: the host name is not known: install the InfluxDB add-on or set \
             influxdb.url"
        );
        assert!(
            words("nas.local:8086")
                .ends_with("nas.local:8086: the host name is not known: check the host name in influxdb.url")
        );
    }
}
