//! What is true once the options were checked. Each part of the program receives its own slice.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::secret::Secret;
use crate::runtime::backoff::Policy;
use crate::spool::Bounds;

#[derive(Debug, Clone)]
pub struct Settings {
    pub log: Log,
    /// `None`: nobody said where Home Assistant is. The service runs, says so, and waits.
    pub home_assistant: Option<HomeAssistant>,
    /// `influxdb` and then the mirrors, each under a name of its own. Empty: nobody said where to write to.
    pub targets: Vec<NamedTarget>,
    pub filter: Filter,
    pub schema: Schema,
    /// Types of events that are written, besides changes of states.
    pub events: Vec<String>,
    /// `None`: no broker is to be listened to.
    pub mqtt: Option<Mqtt>,
    pub delivery: Delivery,
    pub spool: Bounds,
    pub history: History,
    pub place: Place,
}

/// Where the service lives on this machine: not options of the add-on but flags and environment variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub data_dir: PathBuf,
    pub listen: SocketAddr,
    pub metrics_listen: Option<SocketAddr>,
    /// From the signal to the end of the process.
    pub grace: Duration,
    pub rules: RulesFile,
}

/// Where `rules.yaml` is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RulesFile {
    pub path: PathBuf,
    /// Somebody named it. One at the usual place may be missing.
    pub must_be_there: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    pub level: tracing::Level,
    pub format: LogFormat,
    /// In the data folder as well.
    pub file: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone)]
pub struct HomeAssistant {
    /// `ws://` or `wss://`, with the path of the WebSocket API.
    pub url: Url,
    pub token: Secret,
    pub tls: Tls,
}

/// How a server's certificate is judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    pub verify: bool,
    /// A PEM file with further authorities.
    pub ca_certificate: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub struct NamedTarget {
    /// `influxdb`, or `mirror_1` for the first mirror, and so on: as logs and metrics call it.
    pub name: String,
    pub place: Target,
}

#[derive(Debug, Clone)]
pub enum Target {
    Server(Server),
    /// gzip files of line protocol in this folder, one a day.
    Archive(PathBuf),
}

impl Target {
    /// The same for two of them if what is written to the one is written to the other. Who writes does not matter, and
    /// is not told.
    #[must_use]
    pub fn identity(&self) -> String {
        let server = match self {
            // Without a slash at the end, which means nothing.
            Self::Archive(folder) => return format!("file://{}", folder.components().collect::<PathBuf>().display()),
            Self::Server(server) => server,
        };
        let url = &server.url;
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or_default();
        let path = url.path().trim_end_matches('/');
        let name = if matches!(server.api, Api::V1 | Api::V3) { &server.database } else { &server.bucket };
        let place = [Some(name), server.retention_policy.as_ref(), server.organization.as_ref()];
        // As it is written in Rust, so that no name can look like two.
        format!("{}://{host}:{port}{path} {:?}", url.scheme(), place.map(|part| part.map_or("", String::as_str)))
    }
}

/// An InfluxDB, or anything that speaks its write API.
#[derive(Debug, Clone)]
pub struct Server {
    /// `http://` or `https://`; a path is a prefix, for servers behind a proxy.
    pub url: Url,
    pub api: Api,
    pub database: String,
    pub retention_policy: Option<String>,
    pub username: Option<String>,
    pub password: Secret,
    pub organization: Option<String>,
    /// Empty only if `api` is not `V2`.
    pub bucket: String,
    pub token: Secret,
    pub tls: Tls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// Ask the server.
    Auto,
    V1,
    V2,
    V3,
}

/// Include and exclude lists, with Home Assistant's own precedence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    pub include: EntitySet,
    pub exclude: EntitySet,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntitySet {
    pub domains: Vec<String>,
    /// Full entity ids, without wildcards.
    pub entities: Vec<String>,
    /// Patterns with `*`, `?`, `[seq]` or `[!seq]` over the full entity id.
    pub entity_globs: Vec<String>,
    pub registry: RegistryNames,
}

/// What Home Assistant's registries say about an entity, by name or by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegistryNames {
    pub areas: Vec<String>,
    pub floors: Vec<String>,
    pub devices: Vec<String>,
    pub labels: Vec<String>,
    /// The integrations that made the entity, such as `hue`.
    pub integrations: Vec<String>,
}

impl RegistryNames {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        [&self.areas, &self.floors, &self.devices, &self.labels, &self.integrations].iter().all(|list| list.is_empty())
    }
}

impl EntitySet {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.domains.is_empty() && self.entities.is_empty() && self.entity_globs.is_empty() && self.registry.is_empty()
    }
}

/// How an event becomes a point: the options of Home Assistant's own `influxdb` integration, and its defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    pub measurement: MeasurementFrom,
    pub default_measurement: Option<String>,
    pub override_measurement: Option<String>,
    /// Applied last: they may overwrite `domain` and `entity_id`.
    pub tags: Vec<(String, String)>,
    pub tags_attributes: Vec<String>,
    pub ignore_attributes: Vec<String>,
    /// In the order of [`RegistryTag`], each at most once.
    pub registry_tags: Vec<RegistryTag>,
}

/// What Home Assistant's registries say about an entity, as a tag of its points. The tag has the option's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistryTag {
    Area,
    Floor,
    Device,
    /// All of them in one tag, with commas between.
    Labels,
    /// The integration that made the entity.
    Platform,
    /// `config` or `diagnostic`.
    Category,
}

/// A broker whose messages are listened to.
#[derive(Debug, Clone)]
pub enum Mqtt {
    /// The Supervisor knows it, and is asked at each connection.
    Supervisor {
        token: Secret,
    },
    Broker(Broker),
}

#[derive(Debug, Clone)]
pub struct Broker {
    pub host: String,
    pub port: u16,
    pub username: Option<String>,
    pub password: Secret,
    /// `None`: in plain text.
    pub tls: Option<Tls>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeasurementFrom {
    #[default]
    UnitOfMeasurement,
    #[serde(rename = "domain__device_class")]
    DomainDeviceClass,
    EntityId,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// How long the first record of a batch waits for company. Zero: not at all.
    pub linger: Duration,
    pub batch_points: NonZeroUsize,
    pub batch_bytes: NonZeroUsize,
    pub compression: Compression,
    pub retry: Policy,
    /// For one request, from connecting to the last byte of the answer.
    pub request_timeout: Duration,
    /// To one target. `None`: as many as it takes.
    pub requests_per_second: Option<NonZeroU32>,
    pub breaker: Breaker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    None,
    Gzip,
}

/// What Home Assistant's recorder is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// What was missed is fetched.
    pub close_gaps: bool,
    /// The first start brings in everything that the recorder has.
    pub import_on_first_start: bool,
    /// States that Home Assistant restored at its own start, with a new time, are left out.
    pub skip_restored: bool,
}

/// When a target is left alone for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// So many in a row open it.
    pub failures: NonZeroU32,
    pub open_for: Duration,
}
