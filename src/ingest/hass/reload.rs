//! When the registries are asked for, and which of the answers are still to come.
//!
//! Pure. All of them are asked for together, because what is said about an entity is made of all of them.

use std::time::Duration;

use super::protocol::{Command, Registry};

/// After a change it is waited until nothing changed for this long: they come in bursts, one for each entity.
const QUIET: Duration = Duration::from_secs(1);
/// A burst that does not end is not waited for longer than this.
const LONGEST_BURST: Duration = Duration::from_secs(10);
/// An answer that is not there by now does not come: it was in a frame that could not be read.
const LOST: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub struct Reload {
    /// Those that tell of changes.
    subscriptions: Vec<(u64, Registry)>,
    unanswered: Vec<(u64, Registry)>,
    asked: Duration,
    /// The first and the last change that no list shows yet.
    changed: Option<(Duration, Duration)>,
}

impl Reload {
    /// What is said at the beginning of a session. Changes are subscribed to first, so that none is missed.
    pub fn begin(&mut self, mut next_id: impl FnMut() -> u64, now: Duration) -> Vec<Command> {
        let mut commands = Vec::new();
        for registry in Registry::ALL {
            let id = next_id();
            self.subscriptions.push((id, registry));
            let event_type = format!("{}_registry_updated", registry.name());
            commands.push(Command::SubscribeEvents { id, event_type });
        }
        commands.extend(self.ask(next_id, now));
        commands
    }

    /// The registry whose changes the subscription `id` tells of.
    #[must_use]
    pub fn subscribed(&self, id: u64) -> Option<Registry> {
        self.subscriptions.iter().find(|(known, _)| *known == id).map(|(_, registry)| *registry)
    }

    pub fn changed(&mut self, now: Duration) {
        let first = self.changed.map_or(now, |(first, _)| first);
        self.changed = Some((first, now));
    }

    /// The registry that the command `id` asked for.
    pub fn answered(&mut self, id: u64) -> Option<Registry> {
        let at = self.unanswered.iter().position(|(known, _)| *known == id)?;
        Some(self.unanswered.remove(at).1)
    }

    /// Those whose answers are still to come.
    pub fn unanswered(&self) -> impl Iterator<Item = Registry> {
        self.unanswered.iter().map(|(_, registry)| *registry)
    }

    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.unanswered.is_empty()
    }

    /// What is said when it is time to ask again; most often nothing.
    pub fn due(&mut self, next_id: impl FnMut() -> u64, now: Duration) -> Vec<Command> {
        let due = if self.is_complete() {
            self.changed.is_some_and(|(first, last)| {
                now.saturating_sub(last) >= QUIET || now.saturating_sub(first) >= LONGEST_BURST
            })
        } else {
            now.saturating_sub(self.asked) >= LOST
        };
        if due { self.ask(next_id, now) } else { Vec::new() }
    }

    fn ask(&mut self, mut next_id: impl FnMut() -> u64, now: Duration) -> Vec<Command> {
        self.changed = None;
        self.asked = now;
        self.unanswered = Registry::ALL.into_iter().map(|registry| (next_id(), registry)).collect();
        self.unanswered.iter().map(|(id, registry)| Command::ListRegistry { id: *id, registry: *registry }).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Reload;
    use crate::ingest::hass::protocol::Registry;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A reload that was answered all it asked at the beginning, and the counter of ids.
    fn answered() -> (Reload, u64) {
        let (mut reload, mut last) = (Reload::default(), 0);
        let begun = reload.begin(|| (last += 1, last).1, at(0));
        assert_eq!((begun.len(), last), (10, 10));
        for (id, registry) in (6..=10).zip(Registry::ALL) {
            assert!(!reload.is_complete());
            assert_eq!((reload.answered(id), reload.answered(id)), (Some(registry), None));
        }
        assert!(reload.is_complete());
        (reload, last)
    }

    /// How many times all lists are asked for, if something changes at each of these times and time passes in ticks.
    fn asked(changes: &[u64], until: u64) -> usize {
        let (mut reload, mut last) = answered();
        let mut times = 0;
        for tick in (0..until).step_by(100) {
            for _ in changes.iter().filter(|change| (tick..tick + 100).contains(*change)) {
                reload.changed(at(tick));
            }
            let commands = reload.due(|| (last += 1, last).1, at(tick));
            if !commands.is_empty() {
                assert_eq!(commands.len(), 5);
                times += 1;
                for id in last - 4..=last {
                    assert!(reload.answered(id).is_some());
                }
            }
        }
        times
    }

    #[test]
    fn a_burst_of_changes_is_one_reload_and_a_burst_without_end_is_one_now_and_then() {
        assert_eq!(asked(&[], 100_000), 0);
        assert_eq!(asked(&[500], 100_000), 1);
        assert_eq!(asked(&(0..500).map(|number| 1_000 + number).collect::<Vec<_>>(), 100_000), 1);
        assert_eq!(asked(&[1_000, 3_000], 100_000), 2);
        assert_eq!(asked(&(0..200).map(|number| number * 500).collect::<Vec<_>>(), 105_000), 10);
    }

    #[test]
    fn a_change_while_the_lists_are_on_their_way_is_not_missed_and_lost_lists_are_asked_for_again() {
        let (mut reload, mut last) = answered();
        let mut next_id = || (last += 1, last).1;
        reload.changed(at(0));
        assert_eq!(reload.due(&mut next_id, at(1_000)).len(), 5);
        reload.changed(at(1_100));
        assert!(reload.due(&mut next_id, at(5_000)).is_empty(), "one at a time");
        for id in 11..=14 {
            assert!(reload.answered(id).is_some());
        }
        assert_eq!(reload.unanswered().collect::<Vec<_>>(), [Registry::Labels]);
        assert!(reload.due(&mut next_id, at(60_900)).is_empty());
        assert_eq!(reload.due(&mut next_id, at(61_000)).len(), 5);
        assert_eq!((reload.answered(15), reload.answered(16)), (None, Some(Registry::Entities)));
        for id in 17..=20 {
            assert!(reload.answered(id).is_some());
        }
        reload.changed(at(62_000));
        assert_eq!(reload.due(&mut next_id, at(63_000)).len(), 5);
        assert_eq!((reload.subscribed(1), reload.subscribed(6)), (Some(Registry::Entities), None));
    }
}
