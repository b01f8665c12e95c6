//! Hourly statistics of the simulated recorder, as JSON.

use super::home::{Home, STATISTICS_PAST};
use super::json::{push, push_float, push_joined, push_text, push_value};
use super::state::State;
use super::time::{parse, whole};
use crate::model::value::Value;

const HOUR: i64 = 3600;

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
        push_value(&mut unit, state.attributes.get("unit_of_measurement").unwrap_or(&Value::Null));
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
        Value::Text(text) => parse(text),
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

#[cfg(test)]
mod tests {
    use super::{statistic_ids, statistics};
    use crate::demo::home::Home;
    use crate::demo::time::{parse, seconds};
    use crate::model::time::Timestamp;

    const NOW: Timestamp = Timestamp::from_micros(1_795_448_000_000_000);

    #[test]
    fn statistics_are_of_full_hours_and_say_null_for_what_a_kind_has_not() {
        let home = Home::new(1, 40, NOW);
        let ids: Vec<String> =
            ["sensor.living_room_temperature", "sensor.gaste_wc_energy", "light.no"].map(str::to_owned).into();
        let (from, to) = (parse("2026-11-22T10:00:00+00:00").unwrap(), parse("2026-11-22T12:00:00+00:00").unwrap());
        let answer = |types: Option<&[String]>, ids: &[String]| -> serde_json::Value {
            serde_json::from_str(&statistics(&home, ids, from, to, types, seconds(NOW))).unwrap()
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
        let home = Home::new(1, 40, NOW);
        let listed: serde_json::Value = serde_json::from_str(&statistic_ids(&home, None)).unwrap();
        let count = |only| statistic_ids(&home, Some(only)).matches("statistic_id").count();
        let (all, means, sums) = (listed.as_array().unwrap().len(), count("mean"), count("sum"));
        assert!(means > sums && sums > 0);
        assert_eq!(means + sums, all);
    }
}
