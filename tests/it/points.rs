//! What is in an InfluxDB, as points.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;
use serde_json::Value;

use crate::support::influxd::{Influxd, identifier};

/// How many `SELECT`s one request carries.
const STATEMENTS: usize = 50;

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

/// The points of one series, as the server gives them: `None` is a field that a point does not have.
#[derive(Deserialize)]
pub struct Table {
    pub name: String,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    pub columns: Vec<String>,
    pub values: Vec<Vec<Value>>,
}

/// Entity ID and microseconds since 1970 of every point.
pub fn entity_times(influxd: &Influxd, database: &str) -> BTreeSet<(String, i64)> {
    let points = points(influxd, database, 0, i64::MAX);
    points.keys().map(|place| (entity_id(&place.series.tags), place.time / 1_000)).collect()
}

/// The entity ID that the tags of a series tell.
pub fn entity_id(tags: &BTreeMap<String, String>) -> String {
    format!("{}.{}", tags["domain"], tags["entity_id"])
}

/// Every point with `from <= time < to`, in nanoseconds.
pub fn points(influxd: &Influxd, database: &str, from: i64, to: i64) -> Points {
    let mut points = Points::new();
    for table in select_all(influxd, database, &format!("WHERE time >= {from} AND time < {to}")) {
        add(&mut points, table);
    }
    points
}

/// Every series. `condition` is empty or a `WHERE`.
pub fn select_all(influxd: &Influxd, database: &str, condition: &str) -> Vec<Table> {
    let mut tables = Vec::new();
    // One SELECT for each measurement: over several, InfluxDB gives a field only one of the types it has.
    for measurements in measurements(influxd, database).chunks(STATEMENTS) {
        let select = |name: &String| format!("SELECT * FROM {} {condition} GROUP BY *", identifier(name));
        let statements: Vec<String> = measurements.iter().map(select).collect();
        tables.extend(ask(influxd, database, &statements.join(";")));
    }
    tables
}

/// The type of each field of each measurement, as the database decided at the first write.
pub fn field_types(influxd: &Influxd, database: &str) -> BTreeMap<(String, String), String> {
    let mut types = BTreeMap::new();
    for table in ask(influxd, database, "SHOW FIELD KEYS") {
        for row in table.values {
            let [Value::String(key), Value::String(kind)] = row.as_slice() else { panic!("{row:?}") };
            types.insert((table.name.clone(), key.clone()), kind.clone());
        }
    }
    types
}

fn measurements(influxd: &Influxd, database: &str) -> Vec<String> {
    let rows = ask(influxd, database, "SHOW MEASUREMENTS").into_iter().flat_map(|table| table.values);
    rows.map(|row| row[0].as_str().unwrap().to_owned()).collect()
}

fn ask(influxd: &Influxd, database: &str, statements: &str) -> Vec<Table> {
    let results = influxd.query(database, statements).into_iter();
    results
        .filter_map(|mut result| result.get_mut("series").map(Value::take))
        .flat_map(|series| Vec::<Table>::deserialize(series).unwrap())
        .collect()
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
