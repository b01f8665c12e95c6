//! Statistics of years ago, from a real Home Assistant into a real InfluxDB.

use std::time::Duration;

use ha_ingestor::model::time::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::import::{all, import_with};
use crate::peers::home_assistant::{HomeAssistant, Setup};
use crate::points::{Field, Fields, Points, Series};
use crate::registries::Owner;
use crate::support::influxd::Influxd;
use crate::verify::DATABASE;

const HOURS: i64 = 100;
const HOUR_MICROS: i64 = 3_600 * 1_000_000;

fn at(text: &str) -> i64 {
    ha_ingestor::demo::time::parse(text).and_then(Timestamp::from_unix_seconds).unwrap().as_micros()
}

/// Statistics of the hours from two moments on, as `hour` says; `unit` is what they are kept in.
async fn keep(owner: &mut Owner, entity: &str, unit: &str, has_sum: bool, hour: impl Fn(f64) -> Value) {
    for begin in [at("2019-06-01T10:00:00+00:00"), at("2023-01-31T23:00:00+00:00")] {
        let stats: Vec<Value> = (0..HOURS)
            .map(|number| {
                let mut hour = hour(f64::from(i32::try_from(number).unwrap()));
                hour["start"] = json!(Timestamp::from_micros(begin + number * HOUR_MICROS).to_string());
                hour
            })
            .collect();
        let metadata = json!({"has_mean": !has_sum, "has_sum": has_sum, "name": null, "source": "recorder",
            "statistic_id": entity, "unit_of_measurement": unit});
        owner.ask("recorder/import_statistics", json!({"metadata": metadata, "stats": stats})).await;
    }
}

/// Hours, and everything else, of one entity.
fn of(stored: &Points, entity: &str) -> (Vec<(i64, Series, Fields)>, Vec<Series>) {
    let own = stored.iter().filter(|(place, _)| place.series.tags["entity_id"] == entity);
    let (hours, raw): (Vec<_>, Vec<_>) =
        own.partition(|(_, fields)| fields.contains_key("mean") || fields.contains_key("sum"));
    let hours = hours.into_iter().map(|(place, fields)| (place.time, place.series.clone(), fields.clone())).collect();
    (hours, raw.into_iter().map(|(place, _)| place.series.clone()).collect())
}

#[test]
fn the_statistics_of_years_are_where_the_live_points_are_in_the_unit_of_now() {
    let Some(influxd) = Influxd::start() else { return };
    let Some(home) = HomeAssistant::start(Setup { recorder: true, ..Setup::default() }) else { return };
    influxd.create_database(DATABASE);
    let present = |unit: &str, kind: Option<&str>, class: &str| json!({"unit_of_measurement": unit, "device_class": kind, "state_class": class, "friendly_name": "Old"});
    home.set_state("sensor.attic", "21.5", &present("°C", Some("temperature"), "measurement"));
    home.set_state("sensor.meter", "1234.5", &present("kWh", Some("energy"), "total_increasing"));
    home.set_state("sensor.machine", "7", &present("things", None, "measurement"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut owner = Owner::connect(&home).await;
        // 10 °C and more in °F; 1 kWh and more in Wh; and what nobody can convert.
        let fahrenheit = |celsius: f64| celsius * 1.8 + 32.0;
        keep(&mut owner, "sensor.attic", "°F", false, |hour| {
            let mean = 10.0 + hour / 10.0;
            json!({"mean": fahrenheit(mean), "min": fahrenheit(mean - 1.0), "max": fahrenheit(mean + 2.0)})
        })
        .await;
        let hour = |hour: f64| json!({"state": 1_000.0 * (hour + 1.0), "sum": 1_000.0 * (hour + 3.0)});
        keep(&mut owner, "sensor.meter", "Wh", true, hour).await;
        keep(&mut owner, "sensor.machine", "pieces", false, |hour| json!({"mean": hour, "min": 0, "max": hour})).await;
        keep(&mut owner, "sensor.sold", "°C", false, |_| json!({"mean": 1, "min": 1, "max": 1})).await;
        let ids = ["sensor.attic", "sensor.meter", "sensor.machine", "sensor.sold"];
        let question = json!({"start_time": "2019-01-01T00:00:00Z", "statistic_ids": ids, "period": "hour"});
        for _ in 0..60 {
            let kept = owner.ask("recorder/statistics_during_period", question.clone()).await;
            if ids.iter().all(|id| kept[id].as_array().is_some_and(|hours| hours.len() == 200)) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        // The present has to be in the raw history.
        for _ in 0..60 {
            let question = json!({"start_time": "2019-01-01T00:00:00Z", "entity_ids": ["sensor.machine"]});
            let kept = owner.ask("history/history_during_period", question).await;
            if kept["sensor.machine"].is_array() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });

    let folder = TempDir::new().unwrap();
    let options = json!({
        "home_assistant": {"url": home.url(), "token": home.token()},
        "influxdb": {"url": influxd.url(), "database": DATABASE},
    });
    let (code, told) = import_with(folder.path(), &options, &[]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("have no state in Home Assistant now are left out: sensor.sold"), "{told}");
    let stored = all(&influxd);
    let number = |fields: &Fields, name: &str| match fields.get(name) {
        Some(Field::Number(number)) => *number,
        other => panic!("{name} is {other:?} in {fields:?}"),
    };
    let names = |fields: &Fields| fields.keys().cloned().collect::<Vec<String>>();
    let near = |one: f64, other: f64| (one - other).abs() < 1e-6;

    let (hours, raw) = of(&stored, "attic");
    assert_eq!((hours.len(), raw.len()), (200, 1), "{told}");
    for (place, (time, series, fields)) in hours.iter().enumerate() {
        let number_of_hour = i64::try_from(place).unwrap() % HOURS;
        let begin = at(if place < 100 { "2019-06-01T10:00:00+00:00" } else { "2023-01-31T23:00:00+00:00" });
        assert_eq!(*time, (begin + number_of_hour * HOUR_MICROS) * 1_000);
        assert_eq!(series, &raw[0], "where the live points are");
        assert_eq!((series.measurement.as_str(), names(fields).join(" ")), ("°C", "max mean min value".to_owned()));
        let mean = 10.0 + f64::from(i32::try_from(number_of_hour).unwrap()) / 10.0;
        let found = ["mean", "value", "min", "max"].map(|name| number(fields, name));
        let expected = [mean, mean, mean - 1.0, mean + 2.0];
        assert!(found.iter().zip(expected).all(|(one, other)| near(*one, other)), "{found:?}, not {expected:?}");
    }

    let (hours, raw) = of(&stored, "meter");
    assert_eq!((hours.len(), raw.len()), (200, 1), "{told}");
    for (place, (_, series, fields)) in hours.iter().enumerate() {
        assert_eq!(series, &raw[0]);
        assert_eq!((series.measurement.as_str(), names(fields).join(" ")), ("kWh", "sum value".to_owned()));
        let state = f64::from(i32::try_from(place).unwrap() % 100) + 1.0;
        assert!(near(number(fields, "value"), state) && near(number(fields, "sum"), state + 2.0), "{fields:?}");
    }

    // Pieces are no things: they stay what they were.
    let (hours, raw) = of(&stored, "machine");
    assert_eq!((hours.len(), raw.len()), (200, 1), "{told}");
    assert!(
        hours.iter().all(|(_, series, _)| series.measurement == "pieces" && series.tags == raw[0].tags),
        "{hours:?}"
    );
    assert_eq!(raw[0].measurement, "things");
    assert_eq!(of(&stored, "sold").0.len(), 0);
}
