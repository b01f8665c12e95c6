//! Answers from the simulated recorder: raw history and hourly statistics, as JSON.
//!
//! The switches of `history/history_during_period` do what they do in Home Assistant, also where that is surprising:
//! both bounds are exclusive, and the state at the start is a made-up row.

use std::sync::Arc;

use super::home::{Home, RAW_PAST, STATISTICS_PAST};
use super::json::{push, push_float, push_joined, push_pairs, push_text};
use super::state::State;
use super::time::whole;
use crate::model::value::Value;

/// Of these, changes of attributes alone count as significant.
const SIGNIFICANT_DOMAINS: &[&str] = &["climate", "device_tracker", "humidifier", "thermostat", "water_heater"];

/// Of these, `minimal_response` keeps the attributes.
const NEED_ATTRIBUTE_DOMAINS: &[&str] = &["climate", "humidifier", "input_datetime", "thermostat", "water_heater"];

const HOUR: i64 = 3600;

/// `from` and `to` are exclusive; the switches have Home Assistant's own names.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "the switches of the command, one by one")]
pub struct Query {
    pub from: f64,
    pub to: f64,
    pub entity_ids: Vec<String>,
    pub include_start_time_state: bool,
    pub significant_changes_only: bool,
    pub minimal_response: bool,
    pub no_attributes: bool,
}

/// The result of `history/history_during_period`. Entities without rows are absent.
#[must_use]
pub fn history(home: &Home, query: &Query) -> String {
    let mut out = String::from("{");
    for entity_id in &query.entity_ids {
        let rows = rows(home, entity_id, query);
        if rows.is_empty() {
            continue;
        }
        if out.len() > 1 {
            out.push(',');
        }
        push_text(&mut out, entity_id);
        out.push(':');
        push_rows(&mut out, domain(entity_id), &rows, query);
    }
    out.push('}');
    out
}

/// A row: its time as it will be shown, and the state; `None` is a removal.
type Row = (f64, Option<Arc<State>>);

fn rows(home: &Home, entity_id: &str, query: &Query) -> Vec<Row> {
    let mut rows = home.past(entity_id, query.from, query.to, RAW_PAST);
    if query.significant_changes_only && !SIGNIFICANT_DOMAINS.contains(&domain(entity_id)) {
        // Told by the state's own times: a row whose state is older than the row is an update of attributes.
        rows.retain(|(at, state)| state.as_ref().is_none_or(|state| state.last_changed.total_cmp(at).is_eq()));
    }
    if query.include_start_time_state
        && let Some((_, Some(state))) = home.past(entity_id, f64::MIN, query.from, RAW_PAST).pop()
    {
        rows.insert(0, (query.from, Some(state)));
    }
    rows
}

fn push_rows(out: &mut String, domain: &str, rows: &[Row], query: &Query) {
    let minimal = query.minimal_response && !NEED_ATTRIBUTE_DOMAINS.contains(&domain);
    let mut last = None;
    let shown = rows.iter().enumerate().filter(|(at, (_, state))| {
        let state = state.as_ref().map(|state| &*state.state);
        let repeated = minimal && *at > 0 && last == Some(state);
        last = Some(state);
        !repeated
    });
    push_joined(out, ('[', ']'), shown, |out, (place, (at, state))| {
        out.push_str("{\"s\":");
        match state {
            Some(state) => push_text(out, &state.state),
            None => out.push_str("null"),
        }
        let middle = minimal && place > 0;
        if !middle {
            out.push_str(",\"a\":");
            match state {
                Some(state) if !query.no_attributes => push_recorded(out, domain, state),
                _ => out.push_str("{}"),
            }
        }
        out.push_str(",\"lu\":");
        push_float(out, *at);
        // With `significant_changes_only` Home Assistant does not read the column.
        if let Some(state) = state
            && !middle
            && !query.significant_changes_only
            && state.last_changed.total_cmp(at).is_ne()
        {
            out.push_str(",\"lc\":");
            push_float(out, state.last_changed);
        }
        out.push('}');
    });
}

/// The attributes that the recorder keeps: each domain leaves some of its own out.
fn push_recorded(out: &mut String, domain: &str, state: &State) {
    let own: &[&str] = match domain {
        "light" => &[
            "supported_color_modes",
            "effect_list",
            "min_mireds",
            "max_mireds",
            "min_color_temp_kelvin",
            "max_color_temp_kelvin",
            "brightness",
            "color_mode",
            "color_temp",
            "color_temp_kelvin",
            "effect",
            "hs_color",
            "rgb_color",
            "rgbw_color",
            "rgbww_color",
            "xy_color",
        ],
        "climate" => &[
            "hvac_modes",
            "fan_modes",
            "swing_modes",
            "min_temp",
            "max_temp",
            "min_humidity",
            "max_humidity",
            "target_temp_step",
            "preset_modes",
        ],
        "media_player" => &[
            "entity_picture_local",
            "entity_picture",
            "source_list",
            "media_position_updated_at",
            "media_position",
            "sound_mode_list",
        ],
        "update" => &["display_precision", "entity_picture", "in_progress", "release_summary", "update_percentage"],
        "input_text" => &["editable", "max", "min", "mode", "pattern"],
        "input_number" => &["editable", "max", "min", "mode", "step"],
        "sensor" => &["options"],
        _ => &[],
    };
    let left_out =
        |name: &str| matches!(name, "attribution" | "restored" | "supported_features") || own.contains(&name);
    push_pairs(out, state.attributes.iter().filter(|(name, _)| !left_out(name)));
}

/// The result of `recorder/list_statistic_ids`; `only` is `mean` or `sum`.
#[must_use]
pub fn statistic_ids(home: &Home, only: Option<&str>) -> String {
    let mut out = String::new();
    let known = home.states().filter_map(|(id, state)| {
        let has_sum = has_sum(state)?;
        (only.is_none_or(|only| (only == "sum") == has_sum)).then_some((id, state, has_sum))
    });
    push_joined(&mut out, ('[', ']'), known, |out, (id, state, has_sum)| {
        out.push_str("{\"statistic_id\":");
        push_text(out, id);
        let mut unit = String::new();
        super::json::push_value(&mut unit, state.attributes.get("unit_of_measurement").unwrap_or(&Value::Null));
        let class = match unit.trim_matches('"') {
            "°C" => "\"temperature\"",
            "W" => "\"power\"",
            "kWh" => "\"energy\"",
            "V" => "\"voltage\"",
            "%" => "\"unitless\"",
            "km/h" | "mm/h" => "\"speed\"",
            "hPa" => "\"pressure\"",
            _ => "null",
        };
        let mean_type = u8::from(!has_sum);
        push(
            out,
            format_args!(
                ",\"display_unit_of_measurement\":{unit},\"has_mean\":{},\"mean_type\":{mean_type},\"has_sum\":{has_sum},\
             \"name\":null,\"source\":\"recorder\",\"statistics_unit_of_measurement\":{unit},\"unit_class\":{class}}}",
                !has_sum
            ),
        );
    });
    out
}

/// `None`: the entity has no statistics.
fn has_sum(state: &State) -> Option<bool> {
    match state.attributes.get("state_class")? {
        Value::Text(class) if **class == *"measurement" => Some(false),
        Value::Text(class) if class.starts_with("total") => Some(true),
        _ => None,
    }
}

/// One hour of one entity. What the kind of statistics does not have is `None`.
#[derive(Default)]
struct Hour {
    mean: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    last_reset: Option<f64>,
    state: Option<f64>,
    sum: Option<f64>,
    change: Option<f64>,
}

/// The result of `recorder/statistics_during_period` with the period `hour`: full hours that begin in `from..to`.
#[must_use]
pub fn statistics(home: &Home, ids: &[String], from: f64, to: f64, types: Option<&[String]>, now: f64) -> String {
    let known: Vec<(&String, bool)> = ids.iter().filter_map(|id| Some((id, has_sum(home.state(id)?)?))).collect();
    // Columns that none of the entities has are left out; the others are there for all, as `null`.
    let shown = |name: &str| {
        let of_sum = matches!(name, "sum" | "state" | "change");
        let of_mean = matches!(name, "mean" | "min" | "max");
        types.is_none_or(|types| types.iter().any(|asked| asked == name))
            && (!of_sum || known.iter().any(|(_, has_sum)| *has_sum))
            && (!of_mean || known.iter().any(|(_, has_sum)| !has_sum))
    };
    let names: Vec<&str> =
        ["mean", "min", "max", "last_reset", "state", "sum", "change"].into_iter().filter(|name| shown(name)).collect();
    let first = whole((from.max(home.began() - STATISTICS_PAST) / 3600.0).ceil());
    // An hour that is not over has no row yet.
    let end = whole((to.min(now) / 3600.0).ceil()).min(whole(now / 3600.0));
    let mut out = String::from("{");
    for (id, has_sum) in &known {
        let hours = hours(home, id, *has_sum, first, end);
        if hours.is_empty() {
            continue;
        }
        if out.len() > 1 {
            out.push(',');
        }
        push_text(&mut out, id);
        out.push(':');
        push_joined(&mut out, ('[', ']'), hours.iter(), |out, (hour, values)| {
            let start = hour * HOUR * 1000;
            push(out, format_args!("{{\"start\":{start},\"end\":{}", start + HOUR * 1000));
            for name in &names {
                let value = match *name {
                    "mean" => values.mean,
                    "min" => values.min,
                    "max" => values.max,
                    "last_reset" => values.last_reset,
                    "state" => values.state,
                    "sum" => values.sum,
                    _ => values.change,
                };
                push(out, format_args!(",\"{name}\":"));
                match value {
                    // In milliseconds, as an integer.
                    Some(at) if *name == "last_reset" => out.push_str(&whole(at * 1000.0).to_string()),
                    Some(number) => push_float(out, number),
                    None => out.push_str("null"),
                }
            }
            out.push('}');
        });
    }
    out.push('}');
    out
}

fn hours(home: &Home, id: &str, has_sum: bool, first: i64, end: i64) -> Vec<(i64, Hour)> {
    #[expect(clippy::cast_precision_loss, reason = "hours of this century are small numbers")]
    let seconds = |hour: i64| (hour * HOUR) as f64;
    // One hour more at the front: a change is the difference to the hour before.
    let rows = home.past(id, seconds(first - 1), seconds(end), STATISTICS_PAST);
    let last_reset = home.state(id).and_then(|state| match state.attributes.get("last_reset")? {
        Value::Text(text) => super::time::parse(text),
        _ => None,
    });
    let mut hours: Vec<(i64, Hour)> = Vec::new();
    let mut sums = (0.0, 0.0, 0.0);
    let mut before: Option<f64> = None;
    for (at, state) in rows {
        let Some(number) = state.and_then(|state| state.state.parse::<f64>().ok()).filter(|number| number.is_finite())
        else {
            continue;
        };
        let hour = whole(at / 3600.0);
        if hours.last().is_none_or(|(last, _)| *last != hour) {
            before = hours.last().and_then(|(_, values)| values.state).or(before);
            sums = (0.0, number, number);
            hours.push((hour, Hour::default()));
        }
        let (_, values) = hours.last_mut().expect("pushed above");
        sums = (sums.0 + 1.0, f64::min(sums.1, number), f64::max(sums.2, number));
        if has_sum {
            *values = Hour {
                last_reset,
                state: Some(number),
                sum: Some(number),
                change: Some(before.map_or(0.0, |before| number - before)),
                ..Hour::default()
            };
        } else {
            let mean = values.mean.map_or(number, |mean| mean + (number - mean) / sums.0);
            *values = Hour { mean: Some(mean), min: Some(sums.1), max: Some(sums.2), ..Hour::default() };
        }
    }
    hours.retain(|(hour, _)| *hour >= first);
    hours
}

/// The result of `recorder/info`.
#[must_use]
pub fn info(backlog: usize) -> String {
    format!(
        "{{\"backlog\":{backlog},\"db_in_default_location\":true,\"max_backlog\":65000,\"migration_in_progress\":false,\
         \"migration_is_live\":false,\"recording\":true,\"thread_running\":true}}"
    )
}

fn domain(entity_id: &str) -> &str {
    entity_id.split('.').next().unwrap_or(entity_id)
}

#[cfg(test)]
mod tests {
    use super::{Query, history, statistic_ids, statistics};
    use crate::demo::home::Home;
    use crate::demo::json::read_value;
    use crate::demo::time::{parse, seconds};
    use crate::model::time::Timestamp;
    use crate::model::value::Attributes;

    const START: i64 = 1_795_448_000_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_micros(START + second * 1_000_000)
    }

    fn attributes(json: &str) -> Attributes {
        let parsed: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).unwrap();
        parsed.iter().map(|(name, value)| (name.as_str().into(), read_value(value))).collect()
    }

    /// A light and a thermostat: on at 10 s, brighter at 20 s, off at 30 s, off with another attribute at 40 s.
    fn lived() -> Home {
        let mut home = Home::new(1, 0, at(0));
        for (second, state, json) in [
            (10, "on", r#"{"brightness":1,"friendly_name":"X"}"#),
            (20, "on", r#"{"brightness":2,"friendly_name":"X"}"#),
            (30, "off", r#"{"brightness":null,"friendly_name":"X"}"#),
            (40, "off", r#"{"brightness":null,"friendly_name":"Y"}"#),
        ] {
            for id in ["light.l", "climate.c"] {
                home.set(id, state, attributes(json), at(second)).unwrap();
            }
        }
        home
    }

    fn query(id: &str) -> Query {
        Query {
            from: seconds(at(0)),
            to: seconds(at(100)),
            entity_ids: vec![id.to_owned()],
            include_start_time_state: false,
            significant_changes_only: false,
            minimal_response: false,
            no_attributes: false,
        }
    }

    /// The rows of an answer: state, whole seconds of `lu` and `lc`, number of attributes.
    fn check(home: &Home, query: &Query, expected: &[(&str, i64, Option<i64>, Option<usize>)]) {
        let answer: serde_json::Value = serde_json::from_str(&history(home, query)).unwrap();
        let since = |value: &serde_json::Value| {
            Timestamp::from_unix_seconds(value.as_f64().unwrap()).unwrap().as_micros().div_euclid(1_000_000)
                - START / 1_000_000
        };
        let rows: Vec<_> = answer[&query.entity_ids[0]].as_array().into_iter().flatten().collect();
        let found: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    row["s"].as_str().unwrap_or("null"),
                    since(&row["lu"]),
                    row.get("lc").map(since),
                    row.get("a").map(|attributes| attributes.as_object().unwrap().len()),
                )
            })
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn all_rows_come_with_what_the_recorder_keeps() {
        // The recorder keeps no brightness of a light.
        let rows = [
            ("on", 10, None, Some(1)),
            ("on", 20, Some(10), Some(1)),
            ("off", 30, None, Some(1)),
            ("off", 40, Some(30), Some(1)),
        ];
        check(&lived(), &query("light.l"), &rows);
    }

    #[test]
    fn the_bounds_are_exclusive() {
        let home = lived();
        let lu = home.state("light.l").unwrap().last_updated;
        let changes = [(lu - 1e-4, lu + 1e-4, 1), (lu, lu + 1.0, 0), (lu - 1.0, lu, 0)];
        for (from, to, rows) in changes {
            let answer = history(&home, &Query { from, to, ..query("light.l") });
            assert_eq!(answer.matches("\"s\"").count(), rows, "{answer}");
        }
        assert_eq!(history(&home, &Query { from: lu, ..query("light.l") }), "{}");
        assert_eq!(history(&home, &query("light.no_such")), "{}");
    }

    #[test]
    fn the_switches_do_what_they_do_in_home_assistant() {
        let home = lived();
        let significant = Query { significant_changes_only: true, ..query("light.l") };
        check(&home, &significant, &[("on", 10, None, Some(1)), ("off", 30, None, Some(1))]);
        // Of thermostats every change is significant; the time of the state is not told.
        let climate = Query { significant_changes_only: true, ..query("climate.c") };
        let rows = [
            ("on", 10, None, Some(2)),
            ("on", 20, None, Some(2)),
            ("off", 30, None, Some(2)),
            ("off", 40, None, Some(2)),
        ];
        check(&home, &climate, &rows);
        let minimal = Query { minimal_response: true, ..query("light.l") };
        check(&home, &minimal, &[("on", 10, None, Some(1)), ("off", 30, None, None)]);
        let bare = Query { no_attributes: true, from: seconds(at(35)), ..query("light.l") };
        check(&home, &bare, &[("off", 40, Some(30), Some(0))]);
        // The state before, as if it had been set at the start.
        let started =
            Query { include_start_time_state: true, from: seconds(at(15)), to: seconds(at(25)), ..query("climate.c") };
        check(&home, &started, &[("on", 15, Some(10), Some(2)), ("on", 20, Some(10), Some(2))]);
    }

    #[test]
    fn a_removal_is_a_row_without_a_state() {
        let mut home = lived();
        home.remove("light.l", at(50)).unwrap();
        check(&home, &Query { from: seconds(at(45)), ..query("light.l") }, &[("null", 50, None, Some(0))]);
    }

    #[test]
    fn statistics_are_of_full_hours_and_say_null_for_what_a_kind_has_not() {
        let home = Home::new(1, 40, at(0));
        let ids: Vec<String> =
            ["sensor.living_room_temperature", "sensor.gaste_wc_energy", "light.no"].map(str::to_owned).into();
        let (from, to) = (parse("2026-11-22T10:00:00+00:00").unwrap(), parse("2026-11-22T12:00:00+00:00").unwrap());
        let answer = |types: Option<&[String]>, ids: &[String]| -> serde_json::Value {
            serde_json::from_str(&statistics(&home, ids, from, to, types, seconds(at(0)))).unwrap()
        };
        let all = answer(None, &ids);
        let (mean, sum) = (&all[&ids[0]], &all[&ids[1]]);
        assert_eq!((mean.as_array().unwrap().len(), sum.as_array().unwrap().len()), (2, 2), "{all}");
        assert_eq!(mean[0]["start"], 1_795_341_600_000_i64);
        assert_eq!(mean[0]["end"], 1_795_345_200_000_i64);
        let number = |value: &serde_json::Value| value.as_f64().unwrap();
        assert!(
            number(&mean[0]["min"]) < number(&mean[0]["mean"]) && number(&mean[0]["mean"]) < number(&mean[0]["max"])
        );
        assert!(mean[0]["sum"].is_null() && sum[0]["mean"].is_null());
        let grown = number(&sum[1]["sum"]) - number(&sum[0]["sum"]);
        assert!(grown > 0.0 && (grown - number(&sum[1]["change"])).abs() < 1e-6 && number(&sum[0]["change"]) > 0.0);
        // Asked for one kind only, the columns of the other are not there at all.
        assert_eq!(answer(None, &ids[..1])[&ids[0]][0].as_object().unwrap().len(), 6);
        assert_eq!(answer(Some(&["mean".to_owned()]), &ids)[&ids[1]][0].as_object().unwrap().len(), 3);
    }

    #[test]
    fn measurements_and_meters_are_listed_as_such() {
        let home = Home::new(1, 40, at(0));
        let listed: serde_json::Value = serde_json::from_str(&statistic_ids(&home, None)).unwrap();
        let count = |only| statistic_ids(&home, Some(only)).matches("statistic_id").count();
        let (all, means, sums) = (listed.as_array().unwrap().len(), count("mean"), count("sum"));
        assert!(means > sums && sums > 0);
        assert_eq!(means + sums, all);
    }
}
