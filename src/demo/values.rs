//! What an entity reports at a given time: daily curves, noise, switching, and now and then nothing at all.
//!
//! A value depends on the entity, the time, the step and the generator given, and on nothing else. So the same function
//! makes what happens now and what happened months ago, and no past has to be kept.

use std::f64::consts::TAU;

use super::catalogue::Kind;
use super::random::Random;
use crate::model::value::{Attributes, Value};

const DAY: f64 = 86_400.0;

/// Entities lose their device in one of this many values.
const DROPOUTS: u32 = 250;

/// Titles that have broken somebody's parser.
const TITLES: &[&str] = &[
    "Blue in Green",
    "\"Heroes\" (2017 Remaster)",
    "AC\\DC, live = loud",
    "夜に駆ける",
    "🎵 Café del Mar 🏝️",
    "O'Neill & Sons: Opus No. 5",
    "Line one\nline two",
    "ends with a backslash\\",
];

const NOTES: &[&str] = &[
    "milk, eggs = 12, \"organic\"",
    "call back: a\\b,c=d e",
    "ends with \\",
    "Müllabfuhr am Freitag ☃",
    " leading and trailing ",
    "24.12.",
];

/// What `entity` is, as far as its values go.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    pub kind: Kind,
    pub name: &'a str,
    /// From 0 to 1: how this entity differs from others of its kind.
    pub character: f64,
}

/// The state and all attributes at `at` (seconds since 1970). `step` counts the entity's values: what toggles follows it.
#[must_use]
pub fn value(source: Source<'_>, at: f64, step: u64, random: &mut Random) -> (String, Attributes) {
    let Source { kind, name, character } = source;
    if kind.domain() == "sensor" && random.below(DROPOUTS) == 0 {
        let state = random.pick(&["unavailable", "unavailable", "unknown"]);
        return (state.to_owned(), lasting(kind, name));
    }
    // Warmest at three in the afternoon, UTC.
    let day = ((at / DAY - 0.375) * TAU).sin();
    let noise = random.between(-1.0, 1.0);
    let on = step.is_multiple_of(2);
    let mut attributes = lasting(kind, name);
    let mut set = |name: &str, value: Value| attributes.set(name.into(), value);
    let state = match kind {
        Kind::Temperature => format!("{:.1}", 15.0 + 8.0 * character + 2.0 * day + 0.4 * noise),
        Kind::Humidity => format!("{:.1}", 45.0 + 15.0 * character - 4.0 * day + 2.0 * noise),
        Kind::Battery => {
            set("linkquality", Value::Int(random.below(256).into()));
            // Empty after a hundred days, then somebody changes it.
            format!("{:.0}", 100.0 - (at / DAY + 100.0 * character) % 100.0)
        }
        Kind::Illuminance => format!("{:.0}", (400.0 * day.max(0.0) + 12.0) * (1.0 + 0.3 * noise)),
        Kind::Motion | Kind::Door | Kind::Switch => on_off(on),
        Kind::Power => {
            set("current", Value::Float(rounded(random.between(0.0, 16.0), 1000.0)));
            format!("{:.1}", 900.0 * character * (1.0 + 0.5 * noise))
        }
        Kind::Energy => format!("{:.3}", energy(character, at)),
        Kind::Voltage => format!("{:.1}", 230.0 + 4.0 * noise),
        Kind::Light => {
            light(on, random, &mut set);
            on_off(on)
        }
        Kind::Climate => {
            set("current_temperature", Value::Float(rounded(20.0 + day + noise, 10.0)));
            set("temperature", if on { Value::Float(21.0) } else { Value::Int(17) });
            set("hvac_action", text(if noise > 0.0 { "heating" } else { "idle" }));
            random.pick(&["heat", "heat", "auto", "off"]).to_owned()
        }
        Kind::Valve => format!("{:.0}", 50.0 + 40.0 * noise),
        Kind::Cover => {
            let position = random.below(101);
            set("current_position", Value::Int(position.into()));
            if position > 0 { "open" } else { "closed" }.to_owned()
        }
        Kind::MediaPlayer => {
            set("volume_level", Value::Float(rounded(random.unit(), 100.0)));
            set("is_volume_muted", Value::Bool(noise > 0.8));
            set("media_title", text(TITLES[usize::try_from(step).unwrap_or(0) % TITLES.len()]));
            set("media_position", Value::Float(random.between(0.0, 400.0)));
            random.pick(&["playing", "playing", "paused", "idle"]).to_owned()
        }
        Kind::Tracker => {
            set("latitude", Value::Float(52.1 + random.unit() / 100.0));
            set("longitude", Value::Float(5.12 + random.unit() / 100.0));
            set("gps_accuracy", Value::Int((1 + random.below(100)).into()));
            random.pick(&["home", "not_home", "Bureau d'été"]).to_owned()
        }
        Kind::Weather => {
            set("temperature", Value::Float(rounded(8.0 + 6.0 * day + noise, 10.0)));
            set("humidity", Value::Int((60 + random.below(35)).into()));
            set("wind_bearing", Value::Float(random.between(0.0, 360.0)));
            random.pick(&["sunny", "cloudy", "rainy", "partlycloudy"]).to_owned()
        }
        Kind::Wind => format!("{:.1}", 12.0 + 12.0 * noise),
        Kind::Pressure => format!("{:.1}", 1013.0 + 12.0 * (at / (5.0 * DAY) * TAU).sin() + 0.5 * noise),
        Kind::Rain => format!("{:.1}", (4.0 * noise).max(0.0)),
        Kind::Note => random.pick(NOTES).to_owned(),
        Kind::Target => format!("{:.1}", 18.0 + 0.5 * f64::from(random.below(12))),
        Kind::Firmware => {
            set("latest_version", text(&format!("1.2.{}", step % 10_000)));
            on_off(on)
        }
        Kind::People => random.below(6).to_string(),
        Kind::LastSeen => iso_seconds(at - random.between(0.0, 600.0)),
        Kind::Programme => random.pick(&["Koch-/Buntwäsche 60°", "Éco 40-60", "idle", "spin, drain"]).to_owned(),
        Kind::Foreign => "unknown".to_owned(),
    };
    (state, attributes)
}

/// A meter's reading: it always grows, faster by day.
#[must_use]
pub fn energy(character: f64, at: f64) -> f64 {
    // The slope of the sine is at most 0.79 of that of the line, so the sum never falls.
    let hours = (at - 1.75e9) / 3600.0;
    5_000.0 * character + (0.05 + 0.4 * character) * (hours + 3.0 * (hours / 24.0 * TAU).sin())
}

/// The attributes that an entity keeps even while its device is away.
fn lasting(kind: Kind, name: &str) -> Attributes {
    let mut attributes = Attributes::with_capacity(8);
    let mut set = |name: &str, value: Value| attributes.set(name.into(), value);
    let measured = match kind {
        Kind::Temperature => Some(("measurement", "°C", Some("temperature"))),
        Kind::Humidity => Some(("measurement", "%", Some("humidity"))),
        Kind::Battery => Some(("measurement", "%", Some("battery"))),
        Kind::Illuminance => Some(("measurement", "lx", Some("illuminance"))),
        Kind::Power => Some(("measurement", "W", Some("power"))),
        Kind::Energy => Some(("total_increasing", "kWh", Some("energy"))),
        Kind::Voltage => Some(("measurement", "V", Some("voltage"))),
        Kind::Valve => Some(("measurement", "%", None)),
        Kind::Wind => Some(("measurement", "km/h", Some("wind_speed"))),
        Kind::Pressure => Some(("measurement", "hPa", Some("atmospheric_pressure"))),
        Kind::Rain => Some(("measurement", "mm/h", Some("precipitation_intensity"))),
        Kind::People => Some(("measurement", "#", None)),
        _ => None,
    };
    if let Some((state_class, unit, device_class)) = measured {
        set("state_class", text(state_class));
        set("unit_of_measurement", text(unit));
        if let Some(device_class) = device_class {
            set("device_class", text(device_class));
        }
    }
    let mut features = None;
    match kind {
        Kind::Energy => set("last_reset", text("2026-01-01T00:00:00+00:00")),
        Kind::Motion => set("device_class", text("motion")),
        Kind::Door => set("device_class", text("door")),
        Kind::Switch => set("device_class", text("outlet")),
        Kind::LastSeen => set("device_class", text("timestamp")),
        Kind::Light => {
            set("min_color_temp_kelvin", Value::Int(2000));
            set("max_color_temp_kelvin", Value::Int(6535));
            set("supported_color_modes", texts(&["color_temp", "hs"]));
            features = Some(44);
        }
        Kind::Climate => {
            set("hvac_modes", texts(&["auto", "heat", "off"]));
            set("min_temp", Value::Int(7));
            set("max_temp", Value::Int(35));
            set("target_temp_step", Value::Float(0.5));
            features = Some(401);
        }
        Kind::Cover => {
            set("device_class", text("shutter"));
            features = Some(15);
        }
        Kind::MediaPlayer => {
            set("source_list", texts(&["TV", "Line-in", "Radio \"4\""]));
            features = Some(64_063);
        }
        Kind::Tracker => set("source_type", text("gps")),
        Kind::Weather => {
            set("temperature_unit", text("°C"));
            set("attribution", text("Simulated"));
        }
        Kind::Note => {
            for (name, value) in [
                ("editable", Value::Bool(false)),
                ("min", Value::Int(0)),
                ("max", Value::Int(100)),
                ("pattern", Value::Null),
            ] {
                set(name, value);
            }
        }
        Kind::Target => {
            set("min", Value::Float(10.0));
            set("max", Value::Float(30.0));
            set("step", Value::Float(0.5));
            set("unit_of_measurement", text("°C"));
        }
        Kind::Firmware => {
            set("auto_update", Value::Bool(false));
            set("installed_version", text("1.2.0"));
            set("in_progress", Value::Bool(false));
        }
        _ => {}
    }
    set("friendly_name", text(name));
    if let Some(features) = features {
        set("supported_features", Value::Int(features));
    }
    attributes
}

fn light(on: bool, random: &mut Random, set: &mut impl FnMut(&str, Value)) {
    if !on {
        for name in ["color_mode", "brightness", "hs_color", "rgb_color"] {
            set(name, Value::Null);
        }
        return;
    }
    set("color_mode", text("hs"));
    set("brightness", Value::Int((1 + random.below(255)).into()));
    let hue = [random.between(0.0, 360.0), random.between(0.0, 100.0)];
    set("hs_color", Value::List(hue.map(|number| Value::Float(rounded(number, 1000.0))).into()));
    set("rgb_color", Value::List([(); 3].map(|()| Value::Int(random.below(256).into())).into()));
}

fn on_off(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn texts(list: &[&str]) -> Value {
    Value::List(list.iter().map(|item| text(item)).collect())
}

fn rounded(number: f64, steps: f64) -> f64 {
    (number * steps).round() / steps
}

fn iso_seconds(at: f64) -> String {
    super::time::iso(at.trunc())
}

#[cfg(test)]
mod tests {
    use super::energy;

    #[test]
    fn a_meter_never_runs_backwards() {
        let mut last = f64::NEG_INFINITY;
        for minute in 0..10_000 {
            let reading = energy(0.3, 1.795e9 + 60.0 * f64::from(minute));
            assert!(reading > last, "minute {minute}");
            last = reading;
        }
    }
}
