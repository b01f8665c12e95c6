//! InfluxDB 1, and what is in it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use super::find;
use crate::http;
use crate::process::{Process, free_port, wait_until};

const SETTINGS: &str = "influxdb.conf";

/// How many `SELECT`s one request carries.
const STATEMENTS: usize = 50;

pub struct Influxd {
    process: Process,
    program: PathBuf,
    address: SocketAddr,
    data: TempDir,
}

/// All points of a database that a question found.
pub type Points = BTreeMap<Place, Fields>;

/// A point is overwritten by a point at the same place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub series: Series,
    /// Nanoseconds since 1970.
    pub time: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    pub measurement: String,
    pub tags: BTreeMap<String, String>,
}

pub type Fields = BTreeMap<String, Field>;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Field {
    Boolean(bool),
    Number(f64),
    Text(String),
}

#[derive(Deserialize)]
struct Answer {
    results: Vec<Outcome>,
}

#[derive(Deserialize)]
struct Outcome {
    #[serde(default)]
    series: Vec<Table>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Table {
    name: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    columns: Vec<String>,
    values: Vec<Vec<Value>>,
}

impl Influxd {
    pub fn start() -> Option<Self> {
        let program = find("HA_INGESTOR_TEST_INFLUXD", "bin/influxd")?;
        let data = TempDir::new().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        fs::write(data.path().join(SETTINGS), configuration(&data.path().display().to_string(), address)).unwrap();
        let process = run(&program, data.path(), address);
        Some(Self { process, program, address, data })
    }

    /// SIGKILL: what was acknowledged is in its log on disk.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// With the same data on the same port.
    pub fn start_again(&mut self) {
        self.process = run(&self.program, self.data.path(), self.address);
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn create_database(&self, name: &str) {
        self.query("", &format!("CREATE DATABASE {}", identifier(name)));
    }

    /// Every point with `from <= time < to`, in nanoseconds.
    pub fn points(&self, database: &str, from: i64, to: i64) -> Points {
        let mut points = Points::new();
        // One SELECT for each measurement: over several, InfluxDB gives a field only one of the types it has.
        for measurements in self.column(database, "SHOW MEASUREMENTS").chunks(STATEMENTS) {
            let select = |name: &String| {
                let name = identifier(name);
                format!("SELECT * FROM {name} WHERE time >= {from} AND time < {to} GROUP BY *")
            };
            let statements: Vec<String> = measurements.iter().map(select).collect();
            for table in self.query(database, &statements.join(";")) {
                add(&mut points, table);
            }
        }
        points
    }

    /// The type of each field of each measurement, as the database decided at the first write.
    pub fn field_types(&self, database: &str) -> BTreeMap<(String, String), String> {
        let mut types = BTreeMap::new();
        for table in self.query(database, "SHOW FIELD KEYS") {
            for row in table.values {
                let [Value::String(key), Value::String(kind)] = row.as_slice() else { panic!("{row:?}") };
                types.insert((table.name.clone(), key.clone()), kind.clone());
            }
        }
        types
    }

    fn column(&self, database: &str, statement: &str) -> Vec<String> {
        let rows = self.query(database, statement).into_iter().flat_map(|table| table.values);
        rows.map(|row| row[0].as_str().unwrap().to_owned()).collect()
    }

    fn query(&self, database: &str, statements: &str) -> Vec<Table> {
        let body = http::form(&[("db", database), ("epoch", "ns"), ("q", statements)]);
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let answer = http::post(self.address, "/query", &headers, &body).expect("influxd answers");
        let answer = Answer::deserialize(answer.json()).unwrap();
        let outcomes = answer.results.into_iter();
        outcomes.flat_map(|outcome| outcome.error.map_or(outcome.series, |error| panic!("{error}"))).collect()
    }
}

fn run(program: &Path, data: &Path, address: SocketAddr) -> Process {
    let mut command = Command::new(program);
    command.arg("run").arg("-config").arg(data.join(SETTINGS));
    let mut process = Process::start("influxd", &mut command, &data.join("log"));
    wait_until("influxd answers a ping", Duration::from_secs(20), || {
        process.must_run();
        http::get(address, "/ping", &[]).ok()
    });
    process
}

fn configuration(data: &str, http: SocketAddr) -> String {
    let rpc = free_port();
    format!(
        r#"
reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
dir = "{data}/meta"
logging-enabled = false
[data]
dir = "{data}/data"
wal-dir = "{data}/wal"
query-log-enabled = false
[monitor]
store-enabled = false
[subscriber]
enabled = false
[http]
bind-address = "{http}"
log-enabled = false
[logging]
level = "warn"
"#
    )
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

fn add(points: &mut Points, table: Table) {
    let series = Series { measurement: table.name, tags: table.tags };
    for row in table.values {
        let mut fields = Fields::new();
        let mut time = None;
        for (column, value) in table.columns.iter().zip(row) {
            match value {
                Value::Null => {} // This point has no such field.
                value if column == "time" => time = value.as_i64(),
                value => drop(fields.insert(column.clone(), Field::deserialize(value).unwrap())),
            }
        }
        let time = time.expect("InfluxDB gives every row its time");
        points.insert(Place { series: series.clone(), time }, fields);
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.series.measurement)?;
        for (key, value) in &self.series.tags {
            write!(f, ",{key}={value}")?;
        }
        write!(f, " {}", self.time)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value:?}"),
            Self::Text(value) => write!(f, "{value:?}"),
        }
    }
}
