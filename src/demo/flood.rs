//! Events as fast as a socket takes them: messages written once, then copied with another time and context.
//!
//! Every entity walks around a circle of states, and each message is the exact difference from one to the next, so a
//! client that merges them holds what the home will hold. While it runs, the home itself still has the states from
//! before, and its recorder hears nothing: a flood is for measuring, not for stories. Every event has a microsecond of
//! its own, so above a million a second the times run ahead of the clock.

use std::ops::Range;
use std::sync::Arc;

use super::home::Home;
use super::protocol::compressed;
use super::random::{Random, ULID_CHARS};
use super::state::{Change, Context, Entry, State};
use super::time::seconds;
use crate::model::time::Timestamp;

/// How many states an entity walks through.
const CIRCLE: u64 = 6;

/// Stands where the time goes: as long as any time of this century, to the microsecond.
const TIME: &str = "1111111111.111111";

/// Stands where the context goes.
const CONTEXT: &str = "00000000000000000000000000";

pub struct Flood {
    circles: Vec<Circle>,
    next: usize,
    random: Random,
    /// Microseconds of the last event.
    clock: i64,
}

struct Circle {
    place: usize,
    entity_id: Arc<str>,
    steps: Vec<Step>,
    at: usize,
    last_changed: i64,
    last_updated: i64,
    context: [u8; ULID_CHARS],
}

/// From one state to the next.
struct Step {
    message: Vec<u8>,
    time: Range<usize>,
    context: Range<usize>,
    to: State,
    changes_state: bool,
}

impl Flood {
    /// Over those of the home's entities that `covers` says. `None` if none of them ever changes.
    #[must_use]
    pub fn new(home: &Home, subscription: u64, covers: impl Fn(&str) -> bool) -> Option<Self> {
        let mut random = Random::new(subscription);
        let mut circles: Vec<Circle> = home
            .entities
            .iter()
            .enumerate()
            .filter(|(_, entity)| covers(&entity.id))
            .filter_map(|(place, _)| Circle::new(home, place, subscription, &mut random))
            .collect();
        // Neighbours in the home are of one device; a real second is a mixture.
        for at in (1..circles.len()).rev() {
            let other = random.below(u32::try_from(at + 1).expect("far below four billion entities"));
            circles.swap(at, other as usize);
        }
        (!circles.is_empty()).then(|| Self { circles, next: 0, random, clock: home.clock() })
    }

    /// One frame of so many messages: an object if it is one, else an array. `book` is told how to make an entry of each.
    #[must_use]
    pub fn frame(&mut self, messages: usize, now: Timestamp, mut book: impl FnMut(&dyn Fn() -> Entry)) -> Vec<u8> {
        let mut out = Vec::with_capacity(messages * 200);
        let mut time = *b"0000000000.000000";
        let mut whole_seconds = -1;
        let mut context = [b'0'; ULID_CHARS];
        if messages != 1 {
            out.push(b'[');
        }
        for at in 0..messages {
            if at > 0 {
                out.push(b',');
            }
            self.clock = now.as_micros().max(self.clock + 1);
            if self.clock / 1_000_000 != whole_seconds {
                whole_seconds = self.clock / 1_000_000;
                write_digits(whole_seconds, &mut time[..10]);
            }
            write_digits(self.clock % 1_000_000, &mut time[11..]);
            self.random.write_ulid((self.clock / 1000).unsigned_abs(), &mut context);
            let at_circle = self.next;
            self.next = (self.next + 1) % self.circles.len();
            let step = self.circles[at_circle].advance(self.clock, context);
            let start = out.len();
            out.extend_from_slice(&step.message);
            out[start + step.time.start..start + step.time.end].copy_from_slice(&time);
            out[start + step.context.start..start + step.context.end].copy_from_slice(&context);
            let (circle, clock) = (&self.circles[at_circle], self.clock);
            book(&|| circle.entry(clock));
        }
        if messages != 1 {
            out.push(b']');
        }
        out
    }

    /// The home takes over where every entity stands.
    pub fn settle(self, home: &mut Home) {
        for circle in self.circles.into_iter().filter(|circle| circle.last_updated > 0) {
            let mut state = circle.steps[circle.before()].to.clone();
            // Only attributes changed: the state is still as old as it was.
            let changed = (circle.last_changed > 0).then(|| seconds(Timestamp::from_micros(circle.last_changed)));
            state.last_changed = changed.or(home.present(circle.place).map(|(_, old)| old.last_changed)).unwrap_or(0.0);
            state.last_updated = seconds(Timestamp::from_micros(circle.last_updated));
            state.context.id = circle.context.iter().map(|digit| char::from(*digit)).collect();
            home.settle(circle.place, state, self.clock);
        }
    }
}

impl Circle {
    fn new(home: &Home, place: usize, subscription: u64, random: &mut Random) -> Option<Self> {
        let (entity_id, first) = home.present(place)?;
        let context = Context { id: CONTEXT.to_owned(), user_id: None };
        // A user's context is an object in messages; everything here is done by the devices themselves.
        if first.context.user_id.is_some() {
            return None;
        }
        let sentinel: f64 = TIME.parse().expect("the stand-in is a number");
        let mut states = vec![State { context: context.clone(), ..State::clone(first) }];
        for step in 0..CIRCLE {
            let (state, attributes) = home.possible(place, step, random);
            let last = &states[states.len() - 1];
            if *last.state == *state && last.attributes == attributes {
                continue;
            }
            states.push(State { state: state.into(), attributes, context: context.clone(), ..last.clone() });
        }
        let same = |a: &State, b: &State| a.state == b.state && a.attributes == b.attributes;
        while states.len() > 1 && same(&states[0], &states[states.len() - 1]) {
            states.pop();
        }
        if states.len() < 2 {
            return None;
        }
        let steps = (0..states.len()).map(|at| {
            let (old, new) = (&states[at], &states[(at + 1) % states.len()]);
            Step::new(entity_id, old, new, sentinel, subscription)
        });
        Some(Self {
            place,
            entity_id: Arc::clone(entity_id),
            steps: steps.collect(),
            at: 0,
            last_changed: 0,
            last_updated: 0,
            context: [b'0'; ULID_CHARS],
        })
    }

    fn advance(&mut self, clock: i64, context: [u8; ULID_CHARS]) -> &Step {
        let step = &self.steps[self.at];
        self.at = (self.at + 1) % self.steps.len();
        self.last_updated = clock;
        self.context = context;
        if step.changes_state {
            self.last_changed = clock;
        }
        step
    }

    fn entry(&self, clock: i64) -> Entry {
        Entry {
            entity_id: Arc::clone(&self.entity_id),
            last_updated: Timestamp::from_micros(clock),
            state: Some(Arc::clone(&self.steps[self.before()].to.state)),
        }
    }

    fn before(&self) -> usize {
        (self.at + self.steps.len() - 1) % self.steps.len()
    }
}

impl Step {
    fn new(entity_id: &Arc<str>, old: &State, new: &State, sentinel: f64, subscription: u64) -> Self {
        let changes_state = old.state != new.state;
        // The home's own times are kept for what does not change; only one of them appears in the message.
        let mut new = new.clone();
        new.last_changed = if changes_state { sentinel } else { old.last_changed };
        new.last_updated = sentinel;
        let mut before = old.clone();
        before.context.id = String::from("before");
        before.last_changed = if changes_state { 0.0 } else { new.last_changed };
        let change = Change {
            entity_id: Arc::clone(entity_id),
            old: Some(Arc::new(before)),
            new: Some(Arc::new(new.clone())),
            at: sentinel,
            context: new.context.clone(),
        };
        let message = format!("{},\"id\":{subscription}}}", compressed(&change));
        let find = |text: &str| message.rfind(text).map(|at| at..at + text.len()).expect("it was just written");
        Self { time: find(TIME), context: find(CONTEXT), message: message.into_bytes(), to: new, changes_state }
    }
}

fn write_digits(mut number: i64, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
}
