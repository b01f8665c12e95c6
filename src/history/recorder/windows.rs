//! Cuts a long time with many entities into questions whose answers have a good size.
//!
//! Pure. Time goes on for all entities together, so that everything before [`Windows::reached`] is known at any moment.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::model::entity::EntityId;
use crate::model::time::Timestamp;

/// Entities in one question: a database has a limit for the words of one.
const MOST_ENTITIES: usize = 500;
/// An answer has about this size. The Supervisor's proxy breaks a connection at 64 MiB, and what is read needs several
/// times its size in memory.
const GOOD_BYTES: usize = 1 << 20;
const FIRST_SPAN_MICROS: i64 = 10 * 60 * 1_000_000;
const LONGEST_SPAN_MICROS: i64 = 30 * 24 * 3600 * 1_000_000;
const SHORTEST_SPAN_MICROS: i64 = 1_000_000;

/// One question: these entities, from `from` (inclusive) to `until` (exclusive).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    pub entities: Arc<[EntityId]>,
    pub from: Timestamp,
    pub until: Timestamp,
}

#[derive(Debug)]
pub struct Windows {
    groups: Vec<Arc<[EntityId]>>,
    /// All before is known, of all entities.
    reached: Timestamp,
    until: Timestamp,
    span_micros: i64,
    /// What is still to be asked until the next step of time.
    open: VecDeque<Window>,
    step_until: Timestamp,
    /// The largest answer of this step.
    largest: usize,
}

impl Windows {
    /// Entities with names that Home Assistant would not answer for are left out.
    #[must_use]
    pub fn new(entities: &[EntityId], from: Timestamp, until: Timestamp) -> Self {
        let valid: Vec<EntityId> = entities.iter().filter(|entity| entity.is_valid()).cloned().collect();
        let groups = valid.chunks(MOST_ENTITIES).map(Arc::from).collect();
        Self {
            groups,
            reached: from,
            until,
            span_micros: FIRST_SPAN_MICROS,
            open: VecDeque::new(),
            step_until: from,
            largest: 0,
        }
    }

    /// Everything before this was answered.
    #[must_use]
    pub fn reached(&self) -> Timestamp {
        self.reached
    }

    /// The next question; the same until it is answered. `None`: everything was.
    pub fn next_window(&mut self) -> Option<&Window> {
        if self.open.is_empty() {
            if self.reached >= self.until || self.groups.is_empty() {
                self.reached = self.reached.max(self.until);
                return None;
            }
            let end = self.reached.as_micros().saturating_add(self.span_micros);
            self.step_until = Timestamp::from_micros(end).min(self.until);
            let window = |entities: &Arc<[EntityId]>| Window {
                entities: Arc::clone(entities),
                from: self.reached,
                until: self.step_until,
            };
            self.open.extend(self.groups.iter().map(window));
        }
        self.open.front()
    }

    /// The question was answered, with so many bytes.
    pub fn answered(&mut self, bytes: usize) {
        self.largest = self.largest.max(bytes);
        self.open.pop_front();
        if !self.open.is_empty() {
            return;
        }
        self.reached = self.step_until;
        if self.largest > 2 * GOOD_BYTES {
            self.span_micros = (self.span_micros / 2).max(SHORTEST_SPAN_MICROS);
        } else if self.largest < GOOD_BYTES / 2 {
            self.span_micros = (self.span_micros * 2).min(LONGEST_SPAN_MICROS);
        }
        self.largest = 0;
    }

    /// Home Assistant refuses to answer: it is asked about half of the entities at a time. Returns whom nobody can be asked
    /// about alone, which is asked last.
    pub fn refused(&mut self) -> Option<EntityId> {
        let window = self.open.pop_front()?;
        if window.entities.len() > 1 {
            let (left, right) = window.entities.split_at(window.entities.len() / 2);
            self.open.push_front(Window { entities: right.into(), ..window });
            self.open.push_front(Window { entities: left.into(), ..window });
            return None;
        }
        let entity = window.entities.first().cloned();
        self.open.push_back(window);
        entity
    }

    /// This entity is not asked about any more. Returns what is given up: the time from the question that is open until the
    /// end.
    pub fn leave_out(&mut self, entity: &EntityId) -> Option<Window> {
        let from = self.open.iter().find(|window| window.entities.contains(entity)).map(|window| window.from)?;
        let without = |entities: &Arc<[EntityId]>| -> Arc<[EntityId]> {
            entities.iter().filter(|other| *other != entity).cloned().collect()
        };
        for group in &mut self.groups {
            *group = without(group);
        }
        for window in &mut self.open {
            window.entities = without(&window.entities);
        }
        self.groups.retain(|group| !group.is_empty());
        self.open.retain(|window| !window.entities.is_empty());
        if self.open.is_empty() {
            // As if it was answered, so that time goes on.
            self.reached = self.step_until;
        }
        Some(Window { entities: [entity.clone()].into(), from, until: self.until })
    }

    /// The answer was more than anybody can carry: the question is cut in two. Returns what has to be given up, if it
    /// cannot be cut: a second of one entity.
    pub fn too_large(&mut self) -> Option<Window> {
        let window = self.open.pop_front()?;
        self.span_micros = (self.span_micros / 2).max(SHORTEST_SPAN_MICROS);
        let (from, until) = (window.from.as_micros(), window.until.as_micros());
        if until - from > SHORTEST_SPAN_MICROS {
            let middle = Timestamp::from_micros(from + (until - from) / 2);
            self.open.push_front(Window { from: middle, ..window.clone() });
            self.open.push_front(Window { until: middle, ..window });
            return None;
        }
        if window.entities.len() > 1 {
            let (left, right) = window.entities.split_at(window.entities.len() / 2);
            self.open.push_front(Window { entities: right.into(), ..window });
            self.open.push_front(Window { entities: left.into(), ..window });
            return None;
        }
        // As if it was answered, so that time goes on.
        self.open.push_front(window.clone());
        self.answered(usize::MAX);
        Some(window)
    }
}

#[cfg(test)]
mod tests {
    use super::{GOOD_BYTES, MOST_ENTITIES, Window, Windows};
    use crate::model::entity::EntityId;
    use crate::model::time::Timestamp;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn entities(count: usize) -> Vec<EntityId> {
        (0..count).map(|number| EntityId::parse(&format!("sensor.s{number}")).unwrap()).collect()
    }

    /// The seconds of each window, answered with `bytes(seconds)`.
    fn walk(mut windows: Windows, bytes: impl Fn(i64) -> usize) -> Vec<i64> {
        let mut spans = Vec::new();
        let mut end = None;
        while let Some(window) = windows.next_window().cloned() {
            assert!(end.is_none_or(|end| end == window.from), "no gap and no overlap");
            end = Some(window.until);
            let span = (window.until.as_micros() - window.from.as_micros()) / 1_000_000;
            spans.push(span);
            windows.answered(bytes(span));
            assert_eq!(windows.reached(), window.until);
        }
        spans
    }

    #[test]
    fn quiet_times_are_crossed_in_long_steps_and_busy_ones_in_short_ones() {
        let quiet = walk(Windows::new(&entities(3), at(0), at(86_400)), |_| 2);
        assert_eq!(quiet, [600, 1200, 2400, 4800, 9600, 19_200, 38_400, 10_200]);
        let busy =
            walk(Windows::new(&entities(3), at(0), at(1_200)), |span| GOOD_BYTES / 60 * usize::try_from(span).unwrap());
        assert_eq!(busy[..4], [600, 300, 150, 75]);
        assert!(busy[4..].iter().all(|span| *span <= 150), "{busy:?}");
    }

    #[test]
    fn time_goes_on_for_all_entities_together() {
        let mut windows = Windows::new(&entities(MOST_ENTITIES + 1), at(0), at(60));
        assert_eq!(windows.next_window().unwrap().entities.len(), MOST_ENTITIES);
        windows.answered(1);
        assert_eq!((windows.next_window().unwrap().entities.len(), windows.reached()), (1, at(0)));
        windows.answered(1);
        assert_eq!(windows.next_window(), None);
        assert_eq!(windows.reached(), at(60));
    }

    #[test]
    fn nobody_to_ask_about_is_nothing_to_ask() {
        let mut windows = Windows::new(&[], at(0), at(60));
        assert_eq!((windows.next_window().cloned(), windows.reached()), (None, at(60)));
    }

    #[test]
    fn who_cannot_be_asked_about_is_found_and_left_out_from_then_on() {
        let all = entities(5);
        let mut windows = Windows::new(&all, at(0), at(1_800));
        let refused = |window: &Window| window.entities.contains(&all[1]);
        let (mut answered, mut questions, mut left_out) = (0, 0, None);
        while let Some(window) = windows.next_window().cloned() {
            questions += 1;
            if !refused(&window) {
                answered += window.entities.len();
                windows.answered(GOOD_BYTES);
                continue;
            }
            // It is asked about twice alone: the first time nobody else had been.
            if let Some(entity) = windows.refused()
                && answered > 0
            {
                left_out = windows.leave_out(&entity);
            }
        }
        let lost = left_out.unwrap();
        assert_eq!((lost.from, lost.until, &*lost.entities), (at(0), at(1_800), &all[1..2]));
        assert_eq!((windows.reached(), answered), (at(1_800), 3 * 4));
        assert!(questions < 12, "{questions}");
        let mut alone = Windows::new(&all[..1], at(0), at(60));
        let _ = alone.next_window();
        assert_eq!((alone.refused().as_ref(), alone.leave_out(&all[0]).is_some()), (Some(&all[0]), true));
        assert_eq!((alone.next_window().cloned(), alone.reached()), (None, at(60)));
    }

    #[test]
    fn what_nobody_can_carry_is_cut_until_one_second_of_one_entity_is_given_up() {
        let mut windows = Windows::new(&entities(2), at(0), at(4));
        let mut asked = Vec::new();
        let mut given_up = Vec::new();
        while let Some(window) = windows.next_window().cloned() {
            let heavy =
                window.from <= at(2) && window.until > at(2) && window.entities.iter().any(|id| id.object_id() == "s1");
            asked.push((window.from, window.until));
            if heavy {
                given_up.extend(windows.too_large());
            } else {
                windows.answered(1);
            }
        }
        let [lost] = &given_up[..] else { panic!("{given_up:?}") };
        assert_eq!((lost.from, lost.until, lost.entities.len()), (at(2), at(3), 1));
        assert_eq!(windows.reached(), at(4));
        assert_eq!(asked.first(), Some(&(at(0), at(4))));
    }
}
