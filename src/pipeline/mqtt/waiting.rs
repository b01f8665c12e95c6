//! Changes of states that wait until nothing more is expected of them, in the order in which their time comes.
//!
//! Pure. How much waits is bounded: what is over the bound is due at once, the oldest first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Settled;
use crate::model::time::Timestamp;

/// After so much silence a change is complete. The messages of one change follow each other within milliseconds, and the
/// WebSocket has told of it long before.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

const MAX_CHANGES: usize = 10_000;
const MAX_BYTES: usize = 16 << 20;

/// The number of a change, in the order in which they began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Number(u64);

/// A change that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) settled: Settled,
    /// The receipt of the message that began it.
    pub(super) receipt: u64,
    /// Of its messages so far.
    pub(super) bytes: usize,
    /// Whose change it is, if more messages may complete it.
    pub(super) place: Option<Box<str>>,
}

#[derive(Default)]
pub(super) struct Room {
    changes: BTreeMap<Number, (Timestamp, Waiting)>,
    by_due: BTreeSet<(Timestamp, Number)>,
    bytes: usize,
    last_number: u64,
    latest: Option<Timestamp>,
}

impl Room {
    pub(super) fn enter(&mut self, waiting: Waiting, now: Timestamp) -> Number {
        self.look_at(now);
        self.last_number += 1;
        let number = Number(self.last_number);
        let due = after_silence(now);
        self.bytes += waiting.bytes;
        self.by_due.insert((due, number));
        self.changes.insert(number, (due, waiting));
        number
    }

    #[must_use]
    pub(super) fn get_mut(&mut self, number: Number) -> Option<&mut Waiting> {
        self.changes.get_mut(&number).map(|(_, waiting)| waiting)
    }

    /// Something came for a change: the silence begins again.
    pub(super) fn prolong(&mut self, number: Number, bytes: usize, now: Timestamp) {
        self.look_at(now);
        if let Some((due, waiting)) = self.changes.get_mut(&number) {
            self.by_due.remove(&(*due, number));
            *due = (*due).max(after_silence(now));
            self.by_due.insert((*due, number));
            waiting.bytes += bytes;
            self.bytes += bytes;
        }
    }

    /// The next change whose time has come.
    pub(super) fn leave(&mut self, now: Timestamp) -> Option<(Number, Waiting)> {
        self.look_at(now);
        let &(due, number) = self.by_due.first()?;
        if due > now && !self.is_too_full() {
            return None;
        }
        self.by_due.pop_first();
        let (_, waiting) = self.changes.remove(&number).expect("what has a time is there");
        self.bytes -= waiting.bytes;
        Some((number, waiting))
    }

    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// When [`Self::leave`] should be asked.
    #[must_use]
    pub(super) fn due_at(&self) -> Option<Timestamp> {
        let (due, _) = self.by_due.first()?;
        Some(if self.is_too_full() { Timestamp::from_micros(i64::MIN) } else { *due })
    }

    #[must_use]
    pub(super) fn oldest_receipt(&self) -> Option<u64> {
        self.changes.first_key_value().map(|(_, (_, waiting))| waiting.receipt)
    }

    fn is_too_full(&self) -> bool {
        self.changes.len() > MAX_CHANGES || self.bytes > MAX_BYTES
    }

    /// A clock that was set back would make everything wait as long as it was set back. Nobody can say how long they have
    /// waited, so nobody waits longer.
    fn look_at(&mut self, now: Timestamp) {
        let was_set_back = self.latest.is_some_and(|latest| after_silence(now) < latest);
        if was_set_back {
            self.by_due.clear();
            for (number, (due, _)) in &mut self.changes {
                *due = now;
                self.by_due.insert((now, *number));
            }
        }
        if was_set_back || self.latest < Some(now) {
            self.latest = Some(now);
        }
    }
}

fn after_silence(now: Timestamp) -> Timestamp {
    let silence = i64::try_from(SILENCE.as_micros()).expect("a second fits");
    Timestamp::from_micros(now.as_micros().saturating_add(silence))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{MAX_BYTES, MAX_CHANGES, Room, Waiting};
    use crate::model::entity::EntityId;
    use crate::model::event::StateChange;
    use crate::model::time::Timestamp;
    use crate::pipeline::mqtt::Settled;

    fn waiting(receipt: u64, bytes: usize) -> Waiting {
        let change = StateChange {
            entity: EntityId::parse("sensor.a").unwrap(),
            state: "1".into(),
            attributes: Arc::default(),
            last_updated: Timestamp::from_micros(0),
            context: None,
        };
        Waiting { settled: Settled { change, is_exact: false }, receipt, bytes, place: None }
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1_000)
    }

    fn leave(room: &mut Room, millis: i64) -> Option<u64> {
        room.leave(at(millis)).map(|(_, waiting)| waiting.receipt)
    }

    #[test]
    fn a_change_leaves_after_a_second_of_silence_and_the_oldest_receipt_stays_known() {
        let mut room = Room::default();
        let first = room.enter(waiting(1, 1), at(0));
        room.enter(waiting(2, 1), at(300));
        assert_eq!((room.len(), room.due_at(), room.oldest_receipt()), (2, Some(at(1_000)), Some(1)));
        room.prolong(first, 5, at(600));
        assert_eq!(leave(&mut room, 1_299), None);
        assert_eq!(leave(&mut room, 1_300), Some(2));
        assert_eq!(leave(&mut room, 1_300), None);
        assert_eq!((room.len(), room.due_at(), room.oldest_receipt()), (1, Some(at(1_600)), Some(1)));
        room.prolong(first, 5, at(500));
        assert_eq!(room.due_at(), Some(at(1_600)));
        assert_eq!(leave(&mut room, i64::MAX / 1_000), Some(1));
        assert_eq!((room.len(), room.due_at(), room.oldest_receipt(), room.bytes), (0, None, None, 0));
        room.prolong(first, 5, at(700));
        assert_eq!((room.len(), room.bytes), (0, 0));
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nobody_wait() {
        let mut room = Room::default();
        room.enter(waiting(1, 1), at(3_600_000));
        room.enter(waiting(2, 1), at(3_600_000));
        // The small steps of a clock that is corrected are no reason.
        assert_eq!(leave(&mut room, 3_599_500), None);
        assert_eq!(leave(&mut room, 0), Some(1));
        assert_eq!(leave(&mut room, 0), Some(2));
        room.enter(waiting(3, 1), at(0));
        assert_eq!(leave(&mut room, 999), None);
        assert_eq!(leave(&mut room, 1_000), Some(3));
    }

    #[test]
    fn what_is_too_much_is_due_at_once() {
        let mut room = Room::default();
        for receipt in 1..=MAX_CHANGES as u64 {
            room.enter(waiting(receipt, 1), at(0));
        }
        assert_eq!(leave(&mut room, 0), None);
        room.enter(waiting(0, 1), at(0));
        assert_eq!(room.due_at(), Some(Timestamp::from_micros(i64::MIN)));
        assert_eq!(leave(&mut room, 0), Some(1));
        assert_eq!(leave(&mut room, 0), None);

        let mut room = Room::default();
        room.enter(waiting(1, MAX_BYTES), at(0));
        assert_eq!(leave(&mut room, 0), None);
        room.enter(waiting(2, 1), at(0));
        assert_eq!(leave(&mut room, 0), Some(1));
        assert_eq!(leave(&mut room, 0), None);
    }
}
