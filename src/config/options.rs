//! The options as a person types them: the shape of `/data/options.json`, key for key.
//!
//! Every option is `section.name`; of the mirrors it is `mirrors.1.name`, and so on. What is typed may still be wrong: `check` judges it, and the ranges stand there.
//! Nothing outside `config` sees these types. They have no `Debug`: a URL may carry a password until it was checked.

use serde::{Deserialize, Serialize};

use super::secret::Secret;
use super::settings::{Api, Compression, LogFormat, MeasurementFrom, RegistryTag};
use crate::spool::Durability;

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    pub log: Log,
    pub home_assistant: HomeAssistant,
    pub influxdb: InfluxDb,
    /// Further targets, each of which gets everything as well. Default: none.
    pub mirrors: Vec<InfluxDb>,
    pub filter: Filter,
    pub schema: Schema,
    /// Types of events that are written besides changes of states. Default: what automations and scripts do.
    pub events: Vec<String>,
    pub mqtt: Mqtt,
    pub delivery: Delivery,
    pub history: History,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least important messages that are shown. Default: `info`.
    pub level: LogLevel,
    /// `text` for the log panel, or `json`. Default: `text`.
    pub format: LogFormat,
    /// Whether the log is in files as well: `log/ha-ingestor.log` in the data folder, 10 MiB, and four older ones.
    /// Default: false.
    pub file: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Only needed outside the Supervisor, which gives both by itself.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HomeAssistant {
    /// Where Home Assistant is, like `http://homeassistant.local:8123`. Default: empty.
    pub url: String,
    /// A long-lived access token. Default: empty.
    pub token: Secret,
    /// Whether the certificate of an `https` address must be valid. Default: true.
    pub verify_tls: bool,
    /// A PEM file with further authorities: a name in `/ssl`, or an absolute path. Default: empty.
    pub ca_certificate: String,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InfluxDb {
    /// Where the database is, like `http://192.168.1.5:8086`; `file:///share/influxdb` writes files instead.
    /// Default: empty, which under the Supervisor is the InfluxDB add-on. A mirror needs one.
    pub url: String,
    /// Which write API the server speaks. Default: `auto`, which asks it.
    pub api: Api,
    /// The database of `v1` and `v3`. Default: `home_assistant`.
    pub database: String,
    /// A retention policy of `v1`. Default: empty, the database's own.
    pub retention_policy: String,
    /// The user of `v1`. Default: empty, no login.
    pub username: String,
    /// That user's password. Default: empty.
    pub password: Secret,
    /// The organization of `v2`. Default: empty.
    pub organization: String,
    /// The bucket of `v2`. Default: empty; when `auto` finds a `v2` server, it is the name in `database`.
    pub bucket: String,
    /// The token of `v2` and `v3`. Default: empty.
    pub token: Secret,
    /// Whether the certificate of an `https` address must be valid. Default: true.
    pub verify_tls: bool,
    /// A PEM file with further authorities: a name in `/ssl`, or an absolute path. Default: empty.
    pub ca_certificate: String,
}

/// Which entities are written. All lists are empty by default: everything is. Domains and entities have Home Assistant's
/// own precedence; what its registries say about an entity counts more than its domain, and less than its id.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Domains such as `sensor`.
    pub include_domains: Vec<String>,
    /// Entity ids, or patterns over them with `*`, `?` and `[...]`.
    pub include_entities: Vec<String>,
    /// Areas, by the name that a person gave them or by their id.
    pub include_areas: Vec<String>,
    /// Floors, by name or by id.
    pub include_floors: Vec<String>,
    /// Devices, by name or by id.
    pub include_devices: Vec<String>,
    /// Labels, by name or by id.
    pub include_labels: Vec<String>,
    /// The integrations that made the entities, such as `hue`.
    pub include_integrations: Vec<String>,
    /// Domains such as `automation`.
    pub exclude_domains: Vec<String>,
    /// Entity ids, or patterns over them with `*`, `?` and `[...]`.
    pub exclude_entities: Vec<String>,
    /// Areas, by the name that a person gave them or by their id.
    pub exclude_areas: Vec<String>,
    /// Floors, by name or by id.
    pub exclude_floors: Vec<String>,
    /// Devices, by name or by id.
    pub exclude_devices: Vec<String>,
    /// Labels, by name or by id.
    pub exclude_labels: Vec<String>,
    /// The integrations that made the entities, such as `hue`.
    pub exclude_integrations: Vec<String>,
}

/// Under which names things are written: the options of Home Assistant's own `influxdb` integration.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Schema {
    /// Where the name of a measurement comes from. Default: `unit_of_measurement`.
    pub measurement: MeasurementFrom,
    /// The measurement of what has no unit. Default: empty, the entity id.
    pub default_measurement: String,
    /// One measurement for everything. Default: empty, none.
    pub override_measurement: String,
    /// Tags that every point gets, each as `key=value`. Default: none.
    pub tags: Vec<String>,
    /// Attributes that become tags. Default: none.
    pub tags_attributes: Vec<String>,
    /// Attributes that are not written. Default: none.
    pub ignore_attributes: Vec<String>,
    /// What Home Assistant's registries say about an entity, as tags. Default: none.
    pub registry_tags: Vec<RegistryTag>,
}

/// The broker whose messages are listened to, if `rules.yaml` says what they mean.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mqtt {
    /// Default: true.
    pub enabled: bool,
    /// Default: empty, which under the Supervisor is the broker that it knows.
    pub host: String,
    /// Default: 1883.
    pub port: i64,
    /// Default: empty, no login.
    pub username: String,
    /// That user's password. Default: empty.
    pub password: Secret,
    /// Whether the connection is encrypted. Default: false.
    pub tls: bool,
    /// Whether the broker's certificate must be valid. Default: true.
    pub verify_tls: bool,
    /// A PEM file with further authorities: a name in `/ssl`, or an absolute path. Default: empty.
    pub ca_certificate: String,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// How long the first record of a batch waits for company, in milliseconds; 0 is not at all. Default: 1000.
    pub linger_ms: i64,
    /// The most points of one request. Default: 5000.
    pub batch_points: i64,
    /// `gzip` or `none`. Default: `gzip`.
    pub compression: Compression,
    /// `balanced` writes to the disk only what a target does not take, `strict` everything. Default: `balanced`.
    pub durability: Durability,
    /// How much of the disk may hold what is not yet in every target. Default: 256.
    pub spool_megabytes: i64,
    /// How much memory may hold what is not yet in every target. Default: 32.
    pub memory_megabytes: i64,
    /// How long one request may take. Default: 30.
    pub request_timeout_seconds: i64,
    /// The pause after the first failure. Default: 500.
    pub retry_initial_ms: i64,
    /// The longest pause between two attempts. Default: 60000.
    pub retry_max_ms: i64,
    /// The most requests to one target; 0 is no limit. Default: 0.
    pub requests_per_second: i64,
    /// After so many failures in a row a target is left alone for a while. Default: 5.
    pub breaker_failures: i64,
    /// How long it is left alone. Default: 30.
    pub breaker_open_seconds: i64,
}

/// What Home Assistant's recorder is asked for.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct History {
    /// Whether what was missed is fetched from the recorder at each start and connection. Default: true.
    pub close_gaps: bool,
    /// Whether the first start brings in everything that the recorder has. Default: false.
    pub import_on_first_start: bool,
    /// Whether states that Home Assistant restored at its own start, with a new time, are left out. Default: false.
    pub skip_restored: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log: Log::default(),
            home_assistant: HomeAssistant::default(),
            influxdb: InfluxDb::default(),
            mirrors: Vec::new(),
            filter: Filter::default(),
            schema: Schema::default(),
            events: ["automation_triggered", "script_started", "call_service"].map(String::from).into(),
            mqtt: Mqtt::default(),
            delivery: Delivery::default(),
            history: History::default(),
        }
    }
}

impl Default for History {
    fn default() -> Self {
        Self { close_gaps: true, import_on_first_start: false, skip_restored: false }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            enabled: true,
            host: String::new(),
            port: 1883,
            username: String::new(),
            password: Secret::default(),
            tls: false,
            verify_tls: true,
            ca_certificate: String::new(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text, file: false }
    }
}

impl Default for HomeAssistant {
    fn default() -> Self {
        Self { url: String::new(), token: Secret::default(), verify_tls: true, ca_certificate: String::new() }
    }
}

impl Default for InfluxDb {
    fn default() -> Self {
        Self {
            url: String::new(),
            api: Api::Auto,
            database: "home_assistant".to_owned(),
            retention_policy: String::new(),
            username: String::new(),
            password: Secret::default(),
            organization: String::new(),
            bucket: String::new(),
            token: Secret::default(),
            verify_tls: true,
            ca_certificate: String::new(),
        }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            linger_ms: 1000,
            batch_points: 5000,
            compression: Compression::Gzip,
            durability: Durability::Balanced,
            spool_megabytes: 256,
            memory_megabytes: 32,
            request_timeout_seconds: 30,
            retry_initial_ms: 500,
            retry_max_ms: 60_000,
            requests_per_second: 0,
            breaker_failures: 5,
            breaker_open_seconds: 30,
        }
    }
}

impl From<LogLevel> for tracing::Level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Options;

    #[test]
    fn the_defaults_are_the_contract_with_the_user() {
        let contract = json!({
            "log": {"level": "info", "format": "text", "file": false},
            "home_assistant": {"url": "", "token": "", "verify_tls": true, "ca_certificate": ""},
            "influxdb": {
                "url": "", "api": "auto", "database": "home_assistant", "retention_policy": "", "username": "",
                "password": "", "organization": "", "bucket": "", "token": "", "verify_tls": true, "ca_certificate": ""
            },
            "mirrors": [],
            "filter": {
                "include_domains": [], "include_entities": [], "include_areas": [], "include_floors": [],
                "include_devices": [], "include_labels": [], "include_integrations": [],
                "exclude_domains": [], "exclude_entities": [], "exclude_areas": [], "exclude_floors": [],
                "exclude_devices": [], "exclude_labels": [], "exclude_integrations": []
            },
            "schema": {
                "measurement": "unit_of_measurement", "default_measurement": "", "override_measurement": "",
                "tags": [], "tags_attributes": [], "ignore_attributes": [], "registry_tags": []
            },
            "events": ["automation_triggered", "script_started", "call_service"],
            "mqtt": {
                "enabled": true, "host": "", "port": 1883, "username": "", "password": "", "tls": false,
                "verify_tls": true, "ca_certificate": ""
            },
            "delivery": {
                "linger_ms": 1000, "batch_points": 5000, "compression": "gzip", "durability": "balanced",
                "spool_megabytes": 256, "memory_megabytes": 32, "request_timeout_seconds": 30, "retry_initial_ms": 500,
                "retry_max_ms": 60000, "requests_per_second": 0, "breaker_failures": 5, "breaker_open_seconds": 30
            },
            "history": {"close_gaps": true, "import_on_first_start": false, "skip_restored": false}
        });
        assert_eq!(serde_json::to_value(Options::default()).unwrap(), contract);
        assert!(serde_json::from_value::<Options>(contract).unwrap() == Options::default());
        assert!(serde_json::from_str::<Options>("{}").unwrap() == Options::default());
    }
}
