//! When the changes of an entity are written: not too often, not too rarely.
//!
//! **Throttle**: time is cut into slots that begin with a point. A change within the slot waits for its end, and a newer one
//! takes its place. **Heartbeat**: what was written last is written again if nothing else was for a while. Pure: the time is
//! an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::entity::EntityId;
use crate::model::event::StateChange;
use crate::model::time::Timestamp;

/// What is to be done when: at most one thing for each entity.
#[derive(Debug, Default)]
pub struct Agenda {
    entries: BTreeMap<Entry, EntityId>,
    /// Due whatever their time: they were made before the clock was set back.
    overdue: BTreeMap<Entry, EntityId>,
    made: u64,
    latest: Option<Timestamp>,
}

/// A clock that is corrected takes smaller steps.
const SET_BACK: Duration = Duration::from_secs(1);

/// A place in the [`Agenda`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    pub at: Timestamp,
    /// Sets those of the same time apart.
    number: u64,
}

/// The pace of one entity.
#[derive(Debug, Default)]
pub struct Pace {
    /// The state that was seen last.
    last_state: Option<Arc<str>>,
    /// When the last change was made, whatever became of it. What tells of the past is none.
    last_change: Option<Timestamp>,
    /// When the slot began.
    slot: Option<Timestamp>,
    /// The change that waits for the end of the slot.
    held: Option<StateChange>,
    /// What a heartbeat writes again. `None` while the entity has no value.
    written: Option<Written>,
    /// Of the change that waits, or else of the heartbeat. That one may be early.
    entry: Option<Entry>,
}

#[derive(Debug)]
struct Written {
    change: StateChange,
    at: Timestamp,
}

/// What becomes of a change within a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It waits.
    Waits,
    /// It waits instead of another one; or it is older than that, and does not.
    Replaces,
}

/// What a heartbeat is to do.
#[derive(Debug)]
pub enum Beat {
    /// Nothing, now or at all.
    Rests,
    /// This is to be written again.
    Due(StateChange),
}

impl Agenda {
    pub fn add(&mut self, entity: &EntityId, at: Timestamp) -> Entry {
        self.made += 1;
        let entry = Entry { at, number: self.made };
        self.entries.insert(entry, entity.clone());
        entry
    }

    pub fn remove(&mut self, entry: Entry) {
        if self.entries.remove(&entry).is_none() {
            self.overdue.remove(&entry);
        }
    }

    #[must_use]
    pub fn first_at(&self) -> Option<Timestamp> {
        if !self.overdue.is_empty() {
            return Some(Timestamp::from_micros(i64::MIN));
        }
        self.entries.first_key_value().map(|(entry, _)| entry.at)
    }

    /// Takes the first thing whose time has come.
    pub fn take(&mut self, now: Timestamp) -> Option<(Entry, EntityId)> {
        self.look_at(now);
        if let Some(overdue) = self.overdue.pop_first() {
            return Some(overdue);
        }
        let first = self.entries.first_entry().filter(|first| first.key().at <= now)?;
        Some(first.remove_entry())
    }

    /// A clock that was set back would make everything wait as long as it was set back.
    fn look_at(&mut self, now: Timestamp) {
        let was_set_back = self.latest.is_some_and(|latest| later(now, SET_BACK) < latest);
        if was_set_back {
            self.overdue.append(&mut self.entries);
        }
        if was_set_back || self.latest < Some(now) {
            self.latest = Some(now);
        }
    }
}

impl Pace {
    /// Whether the state is the one that was seen last.
    #[must_use]
    pub fn has_seen(&mut self, state: &Arc<str>) -> bool {
        let has_seen = self.last_state.as_ref() == Some(state);
        if !has_seen {
            self.last_state = Some(Arc::clone(state));
        }
        has_seen
    }

    /// This is the last change now. Without a value there is nothing to be written again.
    pub fn see(&mut self, change: &StateChange, has_value: bool) {
        self.last_change = Some(change.last_updated);
        if !has_value {
            self.rest();
        }
    }

    /// Whether nothing came after this change, which waited.
    #[must_use]
    pub fn is_last(&self, change: &StateChange) -> bool {
        self.last_change == Some(change.last_updated)
    }

    /// Whether a change may be written at once. Then a slot begins with it.
    #[must_use]
    pub fn lets_pass(&mut self, time: Timestamp, throttle: Duration) -> bool {
        // A clock that was set back must not keep an entity silent for as long.
        let is_within = |slot: Timestamp| slot.as_micros().abs_diff(time.as_micros()) < micros(throttle).unsigned_abs();
        if self.held.is_some() || self.slot.is_some_and(is_within) {
            return false;
        }
        self.slot = Some(time);
        true
    }

    /// Keeps a change until its slot ends.
    pub fn hold(&mut self, change: &StateChange, throttle: Duration, now: Timestamp, agenda: &mut Agenda) -> Held {
        if let Some(held) = &mut self.held {
            if held.last_updated <= change.last_updated {
                held.clone_from(change);
            }
            return Held::Replaces;
        }
        let end = self.slot.map_or(now, |slot| later(slot, throttle)).min(later(now, throttle));
        self.held = Some(change.clone());
        self.enter(&change.entity, end, agenda);
        Held::Waits
    }

    /// The change that waits; its entry was taken from the agenda. The next slot begins where the one before ended.
    pub fn release(&mut self) -> Option<StateChange> {
        let held = self.held.take()?;
        let end = self.entry.take().map(|entry| entry.at);
        self.slot = end.max(Some(held.last_updated));
        Some(held)
    }

    #[must_use]
    pub fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Something was written, or is known to have been. A heartbeat comes if nothing else does.
    pub fn wrote(&mut self, change: &StateChange, heartbeat: Duration, now: Timestamp, agenda: &mut Agenda) {
        let at = later(now, heartbeat);
        self.written = Some(Written { change: change.clone(), at: now });
        // An entry that is too early moves when its time comes: so a change costs nothing.
        if self.held.is_none() && self.entry.is_none_or(|entry| entry.at > at) {
            self.enter(&change.entity, at, agenda);
        }
    }

    #[must_use]
    pub fn beats(&self) -> bool {
        self.written.is_some()
    }

    /// The entity has no value that could be written again.
    pub fn rest(&mut self) {
        self.written = None;
    }

    /// What the heartbeat repeats.
    #[must_use]
    pub fn repeated(&self) -> Option<&StateChange> {
        self.written.as_ref().map(|written| &written.change)
    }

    /// The time of an entry has come, and it was taken from the agenda. Without `home_is_live` nobody knows whether the value
    /// is still the same.
    pub fn beat(&mut self, heartbeat: Duration, now: Timestamp, home_is_live: bool, agenda: &mut Agenda) -> Beat {
        self.entry = None;
        let Some(written) = &mut self.written else { return Beat::Rests };
        let entity = written.change.entity.clone();
        // A clock that was set back must not keep it silent for as long.
        written.at = written.at.min(now);
        let due = later(written.at, heartbeat);
        if due > now {
            self.enter(&entity, due, agenda);
            return Beat::Rests;
        }
        let next = later(now, heartbeat);
        if home_is_live {
            written.at = now;
        }
        let repeated = StateChange { last_updated: now, context: None, ..written.change.clone() };
        // At the end of time there is no next one.
        if next > now {
            self.enter(&entity, next, agenda);
        }
        if home_is_live { Beat::Due(repeated) } else { Beat::Rests }
    }

    /// Other rules apply: a heartbeat may come earlier than it would have.
    pub fn look_again(&mut self, entity: &EntityId, agenda: &mut Agenda) {
        if self.written.is_some() && self.held.is_none() {
            self.enter(entity, Timestamp::from_micros(i64::MIN), agenda);
        }
    }

    /// The entry was taken from the agenda, and nothing takes its place.
    pub fn forget_entry(&mut self) {
        self.entry = None;
    }

    /// The entity is gone: what waits is given back.
    pub fn end(&mut self, agenda: &mut Agenda) -> Option<StateChange> {
        if let Some(entry) = self.entry.take() {
            agenda.remove(entry);
        }
        self.held.take()
    }

    fn enter(&mut self, entity: &EntityId, at: Timestamp, agenda: &mut Agenda) {
        if let Some(entry) = self.entry.replace(agenda.add(entity, at)) {
            agenda.remove(entry);
        }
    }
}

fn later(time: Timestamp, by: Duration) -> Timestamp {
    Timestamp::from_micros(time.as_micros().saturating_add(micros(by)))
}

fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Agenda, Beat, Held, Pace};
    use crate::model::entity::EntityId;
    use crate::model::event::StateChange;
    use crate::model::time::Timestamp;

    const SLOT: Duration = Duration::from_secs(10);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn change(seconds: i64) -> StateChange {
        StateChange {
            entity: EntityId::parse("sensor.a").unwrap(),
            state: seconds.to_string().into(),
            attributes: std::sync::Arc::default(),
            last_updated: at(seconds),
            context: None,
        }
    }

    #[test]
    fn a_slot_begins_with_a_point_and_ends_with_the_newest_change_in_it() {
        let (mut pace, mut agenda) = (Pace::default(), Agenda::default());
        assert!(pace.lets_pass(at(100), SLOT));
        assert!(!pace.lets_pass(at(101), SLOT));
        assert_eq!(pace.hold(&change(101), SLOT, at(101), &mut agenda), Held::Waits);
        assert_eq!(pace.hold(&change(103), SLOT, at(103), &mut agenda), Held::Replaces);
        // One that is late does not take the place of a newer one.
        assert_eq!(pace.hold(&change(102), SLOT, at(104), &mut agenda), Held::Replaces);
        assert_eq!(agenda.first_at(), Some(at(110)));
        assert!(agenda.take(at(109)).is_none());
        assert!(!pace.lets_pass(at(111), SLOT), "the one that waits comes first");
        agenda.take(at(110)).unwrap();
        assert_eq!(pace.release().unwrap().last_updated, at(103));
        assert!(!pace.lets_pass(at(119), SLOT));
        assert!(pace.lets_pass(at(120), SLOT));
        assert_eq!(agenda.first_at(), None);
    }

    #[test]
    fn a_clock_that_was_set_back_silences_nobody() {
        let (mut pace, mut agenda) = (Pace::default(), Agenda::default());
        assert!(pace.lets_pass(at(10_000), SLOT));
        assert!(pace.lets_pass(at(5_000), SLOT));
        assert!(!pace.lets_pass(at(5_001), SLOT));
        // The clock here was set back, and not that of the home.
        pace.hold(&change(5_001), SLOT, at(10), &mut agenda);
        assert_eq!(agenda.first_at(), Some(at(20)));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nobody_wait() {
        let (mut pace, mut agenda) = (Pace::default(), Agenda::default());
        let mut beating = Pace::default();
        assert!(pace.lets_pass(at(10_000), SLOT));
        pace.hold(&change(10_001), SLOT, at(10_001), &mut agenda);
        beating.wrote(&change(10_000), SLOT, at(10_000), &mut agenda);
        assert!(agenda.take(at(10_005)).is_none());
        // The small steps of a clock that is corrected are no reason.
        assert!(agenda.take(at(10_004)).is_none());
        assert!(agenda.take(at(10)).is_some());
        assert_eq!(agenda.first_at(), Some(Timestamp::from_micros(i64::MIN)));
        assert!(agenda.take(at(10)).is_some());
        assert_eq!((agenda.first_at(), pace.release().is_some()), (None, true));
        assert!(matches!(beating.beat(SLOT, at(10), true, &mut agenda), Beat::Rests));
        assert_eq!(agenda.first_at(), Some(at(20)));
        // It counts as little as any other entry once it is removed.
        assert!(agenda.take(at(5)).is_some());
        assert!(matches!(beating.beat(SLOT, at(5), true, &mut agenda), Beat::Rests));
        beating.end(&mut agenda);
        assert!(agenda.take(at(1_000)).is_none());
    }

    #[test]
    fn a_heartbeat_comes_when_nothing_else_was_written_for_so_long() {
        let (mut pace, mut agenda) = (Pace::default(), Agenda::default());
        pace.wrote(&change(100), SLOT, at(100), &mut agenda);
        pace.wrote(&change(105), SLOT, at(105), &mut agenda);
        agenda.take(at(110)).unwrap();
        assert!(matches!(pace.beat(SLOT, at(110), true, &mut agenda), Beat::Rests));
        assert_eq!(agenda.first_at(), Some(at(115)));
        agenda.take(at(115)).unwrap();
        let Beat::Due(repeated) = pace.beat(SLOT, at(115), true, &mut agenda) else { panic!("its time has come") };
        assert_eq!((&*repeated.state, repeated.last_updated), ("105", at(115)));
        assert_eq!(agenda.first_at(), Some(at(125)));
    }

    #[test]
    fn a_pause_of_the_home_is_not_made_up_for() {
        let (mut pace, mut agenda) = (Pace::default(), Agenda::default());
        pace.wrote(&change(100), SLOT, at(100), &mut agenda);
        for now in [110, 120] {
            agenda.take(at(now)).unwrap();
            assert!(matches!(pace.beat(SLOT, at(now), false, &mut agenda), Beat::Rests));
        }
        agenda.take(at(1_000)).unwrap();
        assert!(matches!(pace.beat(SLOT, at(1_000), true, &mut agenda), Beat::Due(_)));
        assert_eq!(agenda.first_at(), Some(at(1_010)));
    }

    #[test]
    fn nothing_is_repeated_while_there_is_no_value_and_at_the_end_of_time() {
        let (mut pace, mut agenda) = (Pace::default(), Agenda::default());
        pace.wrote(&change(100), SLOT, at(100), &mut agenda);
        pace.rest();
        agenda.take(at(110)).unwrap();
        assert!(matches!(pace.beat(SLOT, at(110), true, &mut agenda), Beat::Rests));
        assert_eq!(agenda.first_at(), None);
        pace.wrote(&change(120), SLOT, at(120), &mut agenda);
        let end = Timestamp::from_micros(i64::MAX);
        agenda.take(end).unwrap();
        assert!(matches!(pace.beat(SLOT, end, false, &mut agenda), Beat::Rests));
        assert_eq!(agenda.first_at(), None);
    }

    #[test]
    fn what_waits_comes_before_a_heartbeat_and_leaves_one_entry() {
        let (mut pace, mut agenda) = (Pace::default(), Agenda::default());
        assert!(pace.lets_pass(at(100), SLOT));
        pace.wrote(&change(100), Duration::from_secs(5), at(100), &mut agenda);
        pace.hold(&change(101), SLOT, at(101), &mut agenda);
        assert_eq!(agenda.entries.len(), 1);
        assert_eq!(pace.end(&mut agenda).unwrap().last_updated, at(101));
        assert!(agenda.entries.is_empty());
    }
}
