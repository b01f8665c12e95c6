//! Where the lines go: an InfluxDB of any age, whatever else speaks its write API, or a folder of files.
//!
//! A target takes a batch and says what it was answered. It does not judge the answer and it never tries twice:
//! `deliver` does.

mod compress;
mod detect;
pub mod file;
mod http;
pub mod probe;
pub mod reply;
mod request;
mod server;

use std::io;
use std::path::PathBuf;

use crate::config::settings;
use crate::model::record::Batch;

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
}

#[derive(Debug)]
pub enum Answer {
    /// The server answered in full, or at least with as much of a body as we read.
    Reply(Reply),
    /// The connection broke while a large body was on its way: so do servers that find it too large.
    CutOffWhileSending,
    /// Nobody answered, or not in full. Whether the lines were stored is not known.
    Nothing { fault: Fault, words: String },
    /// Something answered that is no database we know; one sentence for people.
    NotRecognised(String),
    /// The lines are in the archive.
    Filed,
    /// The archive's disk said no.
    Disk { kind: io::ErrorKind, words: String },
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
    /// What to call it in a sentence.
    #[must_use]
    pub fn sentence(self) -> &'static str {
        match self {
            Self::NoSuchHost => "the host name is not known",
            Self::Refused => "nothing listens there",
            Self::TimedOut => "no answer in time",
            Self::Tls => "no secure connection",
            Self::Broken => "the connection broke",
            Self::NotHttp => "the answer is not HTTP",
            Self::NotReady => "the server is not ready",
            Self::Other => "the request failed",
        }
    }
}

/// Why a target cannot be used at all, whatever the network does.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot read the certificate {}", path.display())]
    ReadCertificate { path: PathBuf, source: io::Error },
    #[error("{} holds no certificate that can be used", path.display())]
    BadCertificate { path: PathBuf },
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    #[error("the {0} holds a character that no HTTP header can carry")]
    BadCredential(&'static str),
    #[error("the address cannot be used in a request")]
    BadAddress,
}

impl Target {
    /// Connects nowhere: the first batch does.
    pub fn open(target: &settings::Target, delivery: &settings::Delivery) -> Result<Self, OpenError> {
        Ok(match target {
            settings::Target::Server(server) => Self::Server(Server::open(server, delivery)?),
            settings::Target::Archive(folder) => Self::Archive(Archive::new(folder.clone())),
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
