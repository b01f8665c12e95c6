//! Decides which of the events that cannot be written are kept: an entity that a rule cannot write repeats itself at every
//! change, and must not push out the lines that only wait for a repair.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use crate::model::fate::Refused;
use crate::model::refused::RefusedEvent;
use crate::model::time::Timestamp;

const HOUR: i64 = 3_600_000_000;
const DAY: i64 = 24 * HOUR;

/// Of one entity or topic, by one rule, for one reason.
const MOST_AN_HOUR: u32 = 10;
/// Of all that one rule refuses for one reason.
const MOST_A_DAY: u32 = 100;

/// So many are remembered. More entities than that have no letters of their own until an hour has passed.
const MOST_REMEMBERED: usize = 10_000;

/// What was kept lately.
#[derive(Debug, Default)]
pub struct Allowance {
    of_rules: HashMap<Cause, Window>,
    of_subjects: HashMap<(Cause, Box<str>), Window>,
}

type Cause = (Refused, Option<Arc<str>>);

/// A span of time, and how many were kept in it.
#[derive(Debug, Clone, Copy)]
struct Window {
    since: Timestamp,
    kept: u32,
}

impl Allowance {
    /// Whether this one is kept. `now` is the time of the wall clock.
    pub fn admit(&mut self, event: &RefusedEvent, now: Timestamp) -> bool {
        let cause = (event.reason, event.rule.clone());
        let subject = event.what.split(' ').next().unwrap_or_default();
        let by_subject = (cause.clone(), subject.into());
        let rule = open(&mut self.of_rules, cause, now, DAY);
        let subject = open(&mut self.of_subjects, by_subject, now, HOUR);
        match (rule, subject) {
            (Some(rule), Some(subject)) if rule.kept < MOST_A_DAY && subject.kept < MOST_AN_HOUR => {
                rule.kept += 1;
                subject.kept += 1;
                true
            }
            _ => false,
        }
    }
}

/// The window in which `now` is. `None`: too many others are remembered.
fn open<K: Hash + Eq>(windows: &mut HashMap<K, Window>, key: K, now: Timestamp, length: i64) -> Option<&mut Window> {
    // A clock that was set back begins a new one as well.
    let is_over = |window: &Window| !(0..length).contains(&now.as_micros().saturating_sub(window.since.as_micros()));
    if windows.len() >= MOST_REMEMBERED && !windows.contains_key(&key) {
        windows.retain(|_, window| !is_over(window));
        if windows.len() >= MOST_REMEMBERED {
            return None;
        }
    }
    let window = windows.entry(key).or_insert(Window { since: now, kept: 0 });
    if is_over(window) {
        *window = Window { since: now, kept: 0 };
    }
    Some(window)
}

#[cfg(test)]
mod tests {
    use super::{Allowance, DAY, HOUR, MOST_REMEMBERED};
    use crate::model::fate::Refused;
    use crate::model::refused::RefusedEvent;
    use crate::model::time::Timestamp;

    fn event(subject: &str, rule: Option<&str>, reason: Refused) -> RefusedEvent {
        let what = format!("{subject} {{}}");
        RefusedEvent { time: Timestamp::from_micros(0), context: None, rule: rule.map(Into::into), reason, what }
    }

    fn kept(allowance: &mut Allowance, times: usize, event: &RefusedEvent, now: i64) -> usize {
        (0..times).filter(|_| allowance.admit(event, Timestamp::from_micros(now))).count()
    }

    #[test]
    fn an_entity_has_ten_letters_an_hour_for_each_rule_and_reason() {
        let mut allowance = Allowance::default();
        let oven = event("sensor.oven", Some("a"), Refused::WrongType);
        assert_eq!(kept(&mut allowance, 1_000, &oven, 0), 10);
        for other in [
            event("sensor.hob", Some("a"), Refused::WrongType),
            event("sensor.oven", Some("b"), Refused::WrongType),
            event("sensor.oven", None, Refused::WrongType),
            event("sensor.oven", Some("a"), Refused::NoFields),
        ] {
            assert_eq!(kept(&mut allowance, 11, &other, 1), 10, "{other:?}");
        }
        assert_eq!(kept(&mut allowance, 5, &oven, HOUR - 1), 0);
        assert_eq!(kept(&mut allowance, 50, &oven, HOUR), 10);
        assert_eq!(kept(&mut allowance, 50, &oven, HOUR - 2), 10, "the clock was set back");
    }

    #[test]
    fn a_rule_has_a_hundred_letters_a_day_however_many_entities_it_is_about() {
        let mut allowance = Allowance::default();
        let mut of_day = |day: i64| -> usize {
            let one = |number| event(&format!("sensor.s{number}"), Some("a"), Refused::NoFields);
            (0..1_000).map(|number| kept(&mut allowance, 1, &one(number), day * DAY + number)).sum()
        };
        assert_eq!((of_day(0), of_day(1)), (100, 100));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut allowance = Allowance::default();
        for number in 0..3 * MOST_REMEMBERED {
            let one = event(&format!("s.{number}"), None, Refused::NoFields);
            allowance.admit(&one, Timestamp::from_micros(0));
        }
        assert_eq!(allowance.of_subjects.len(), MOST_REMEMBERED);
        assert_eq!(
            kept(&mut allowance, 20, &event("s.late", None, Refused::NoFields), DAY),
            10,
            "the others are forgotten"
        );
    }
}
