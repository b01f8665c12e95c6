//! The whole service with all its sources: Home Assistant by WebSocket and by MQTT, devices by MQTT, and `rules.yaml`.

mod broker;
mod home;

use serde_json::{Value, json};

use crate::support::influxd::Influxd;
use crate::support::mosquitto::Mosquitto;

/// Where to write, and which broker to listen to.
fn options(influxd: &Influxd, database: &str, mosquitto: &Mosquitto) -> Value {
    influxd.create_database(database);
    json!({
        "influxdb": {"url": influxd.url(), "api": "v1", "database": database},
        "mqtt": {"host": mosquitto.address.ip().to_string(), "port": mosquitto.address.port()},
        // A database that was away is asked again soon.
        "delivery": {"retry_max_ms": 1_000, "breaker_open_seconds": 1},
    })
}
