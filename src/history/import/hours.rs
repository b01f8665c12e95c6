//! An hour of statistics as a point: in the measurement and with the tags that the entity's live points have.
//!
//! Pure. The rules are asked for each number as if it were the entity's state, so that a conversion or a factor that is
//! written for the value holds for its mean and extremes as well.

use std::sync::Arc;

use crate::history::recorder::statistics::Hour;
use crate::model::event::StateChange;
use crate::model::point::{FieldValue, Point};
use crate::model::time::Timestamp;
use crate::pipeline::Fate;
use crate::pipeline::past::Shaper;
use crate::rules::Rules;

/// The rules without what is about the pace of live changes: every hour counts.
#[must_use]
pub fn without_pace(rules: &Rules) -> Arc<Rules> {
    let mut rules = rules.clone();
    for rule in &mut rules.rules {
        rule.actions.throttle = None;
        rule.actions.heartbeat = None;
        rule.actions.only_state_changes = None;
    }
    Arc::new(rules)
}

/// Makes the point. `present`: the entity's state of now, whose unit the numbers have. `None`: the rules leave the entity out,
/// or there is no number. `with_value`: the mean, or the state of a total, as `value` too, so that dashboards show it.
#[must_use]
pub fn point(shaper: &mut Shaper, present: &StateChange, hour: &Hour, with_value: bool) -> Option<Point> {
    let value = hour.mean.or(hour.state).filter(|_| with_value);
    let numbers = [("value", value), ("mean", hour.mean), ("min", hour.min), ("max", hour.max), ("sum", hour.sum)];
    let mut whole: Option<Point> = None;
    // A pipeline takes two states of one moment for the same: each number has a moment of its own, in the hour.
    for (moment, (name, number)) in (0..).zip(numbers) {
        let Some(number) = number else { continue };
        let state = StateChange {
            state: number.to_string().into(),
            last_updated: Timestamp::from_micros(hour.start.as_micros() + moment),
            context: None,
            ..present.clone()
        };
        shaper.take(state, &mut |fate, _| {
            let Fate::Point { point, .. } = fate else { return };
            let made = whole.get_or_insert_with(|| bare(point, hour.start));
            let by_rules = point.fields().find_map(|(field, value)| match value {
                FieldValue::Float(number) if field == "value" => Some(number),
                FieldValue::Integer(_) if field == "value" => Some(number),
                _ => None,
            });
            made.push_field(&[name], FieldValue::Float(by_rules.unwrap_or(number)));
        });
    }
    whole.map(|mut point| {
        point.sort();
        point
    })
}

/// The same place, without fields.
fn bare(of: &Point, time: Timestamp) -> Point {
    let mut point = Point::default();
    point.set_time(time);
    point.set_measurement(&[of.measurement()]);
    for (key, value) in of.tags() {
        point.set_tag(key, value);
    }
    point
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{point, without_pace};
    use crate::history::recorder::statistics::Hour;
    use crate::line::encode::encode;
    use crate::model::entity::EntityId;
    use crate::model::event::StateChange;
    use crate::model::time::Timestamp;
    use crate::model::value::Value;
    use crate::pipeline::past::Shaper;
    use crate::pipeline::places::Places;
    use crate::rules::{Actions, FieldActions, Rule, Rules, Selection};

    fn line(rules: &Rules, hour: &Hour, with_value: bool) -> Option<String> {
        let present = StateChange {
            entity: EntityId::parse("sensor.lab").unwrap(),
            state: "unavailable".into(),
            attributes: Arc::new([("unit_of_measurement".into(), Value::Text("°C".into()))].into_iter().collect()),
            last_updated: Timestamp::from_micros(9),
            context: None,
        };
        let mut shaper =
            Shaper::new(&without_pace(rules), Places::default(), Arc::default(), Timestamp::from_micros(0));
        let point = point(&mut shaper, &present, hour, with_value)?;
        let mut bytes = Vec::new();
        encode(&point, &mut bytes).unwrap();
        Some(String::from_utf8(bytes).unwrap())
    }

    fn hour() -> Hour {
        let start = Timestamp::from_micros(3_600_000_000);
        Hour { start, mean: Some(20.0), min: Some(19.5), max: Some(21.0), state: None, sum: None }
    }

    #[test]
    fn a_measurement_has_mean_and_extremes_where_its_live_points_are() {
        let expected = "°C,domain=sensor,entity_id=lab max=21,mean=20,min=19.5,value=20 3600000000000";
        assert_eq!(line(&Rules::default(), &hour(), true).as_deref(), Some(expected));
        let bare = line(&Rules::default(), &hour(), false).unwrap();
        assert!(!bare.contains("value"), "{bare}");
    }

    #[test]
    fn a_total_has_its_state_and_sum_and_an_empty_hour_is_no_point() {
        let total = Hour { mean: None, min: None, max: None, state: Some(5.0), sum: Some(7.5), ..hour() };
        let expected = "°C,domain=sensor,entity_id=lab sum=7.5,value=5 3600000000000";
        assert_eq!(line(&Rules::default(), &total, true).as_deref(), Some(expected));
        let empty = Hour { state: None, sum: None, ..total };
        assert_eq!(line(&Rules::default(), &empty, true), None);
    }

    #[test]
    fn rules_for_the_value_hold_and_those_for_the_pace_do_not() {
        let scaled = FieldActions { scale: Some(10.0), ..FieldActions::default() };
        let actions = Actions {
            fields: Some(vec![("value".into(), scaled)]),
            throttle: Some(Duration::from_hours(2)),
            only_state_changes: Some(true),
            ..Actions::default()
        };
        let selection = Selection { entity_globs: vec!["sensor.*".into()], ..Selection::default() };
        let rules = Rules { rules: vec![Rule { name: "r".into(), selection, actions }], ..Rules::default() };
        let line = line(&rules, &hour(), true).unwrap();
        assert!(line.contains("max=210,mean=200,min=195,value=200"), "{line}");
    }
}
