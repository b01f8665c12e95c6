//! Answers from the simulated recorder: raw history, as JSON.
//!
//! The switches of `history/history_during_period` do what they do in Home Assistant, also where that is surprising:
//! both bounds are exclusive, and the state at the start is a made-up row.

use std::sync::Arc;

use super::home::{Home, RAW_PAST};
use super::json::{push_float, push_joined, push_pairs, push_text};
use super::state::State;

/// Of these, changes of attributes alone count as significant.
const SIGNIFICANT_DOMAINS: &[&str] = &["climate", "device_tracker", "humidifier", "thermostat", "water_heater"];

/// Of these, `minimal_response` keeps the attributes.
const NEED_ATTRIBUTE_DOMAINS: &[&str] = &["climate", "humidifier", "input_datetime", "thermostat", "water_heater"];

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
        // With `significant_changes_only`, and for the state at the start, Home Assistant does not read the column.
        let read = !middle && !query.significant_changes_only && *at > query.from;
        if let Some(state) = state
            && read
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

/// The result of `recorder/info`.
#[must_use]
pub fn info(backlog: usize, migrating: bool) -> String {
    format!(
        "{{\"backlog\":{backlog},\"db_in_default_location\":true,\"max_backlog\":65000,\"migration_in_progress\":{migrating},\
         \"migration_is_live\":false,\"recording\":true,\"thread_running\":true}}"
    )
}

fn domain(entity_id: &str) -> &str {
    entity_id.split('.').next().unwrap_or(entity_id)
}

#[cfg(test)]
mod tests {
    use super::{Query, history};
    use crate::demo::home::Home;
    use crate::demo::json::read_value;
    use crate::demo::time::seconds;
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
        check(&home, &started, &[("on", 15, None, Some(2)), ("on", 20, Some(10), Some(2))]);
    }

    #[test]
    fn a_removal_is_a_row_without_a_state() {
        let mut home = lived();
        home.remove("light.l", at(50)).unwrap();
        check(&home, &Query { from: seconds(at(45)), ..query("light.l") }, &[("null", 50, None, Some(0))]);
    }
}
