//! The simulated home: entities that change, and what the recorder knows of them.
//!
//! It is given the time and knows no sockets and no protocol. Equal seeds and equal calls give equal homes. Every
//! change has a time of its own, later than all before it, also after rounding to microseconds.

use std::collections::HashMap;
use std::sync::Arc;

use super::catalogue::{Kind, MODELS, Model, ROOMS, slug};
use super::past;
use super::random::Random;
use super::records::Records;
use super::state::{Change, Context, Happening, State};
use super::time::{seconds, whole};
use super::trouble::Trouble;
use super::values::{self, Source};
use crate::model::time::Timestamp;
use crate::model::value::{Attributes, Value};

/// The user that calls services, as `context.user_id` shows it.
pub const USER_ID: &str = "4adb158305204f719656c102f0704a7b";

/// The raw past that is made up when somebody asks, in seconds: one day.
pub const RAW_PAST: f64 = 86_400.0;

/// The past of the hourly statistics, in seconds: ninety days.
pub const STATISTICS_PAST: f64 = 90.0 * 86_400.0;

#[derive(Debug)]
pub struct Entity {
    pub id: Arc<str>,
    pub kind: Kind,
    pub name: String,
    /// Place in the home's list of devices; helpers and foreign entities have none.
    pub device: Option<usize>,
    /// An area of its own, over that of the device.
    pub area_id: Option<String>,
    pub registry_id: String,
    seed: u64,
    step: u64,
}

#[derive(Debug)]
pub struct Device {
    pub id: String,
    pub name: String,
    pub model: &'static Model,
    pub area_id: Option<String>,
    pub serial_number: String,
}

pub struct Home {
    pub(super) entities: Vec<Entity>,
    pub(super) devices: Vec<Device>,
    pub(super) notifications: Vec<(String, String)>,
    places: HashMap<Arc<str>, usize>,
    /// In the order of `entities`; `None` where one was removed.
    states: Vec<Option<Arc<State>>>,
    /// Rows recorded since the home began.
    records: Records,
    random: Random,
    clock: i64,
    began: f64,
    /// Home Assistant starts: these states are restored when it has.
    asleep: Option<Vec<Option<Arc<State>>>>,
    /// The recorder is not loaded.
    pub(super) has_no_recorder: bool,
    /// What goes wrong with the recorder.
    pub trouble: Trouble,
    /// Place in the list of [`Home::next_event`].
    next_event: usize,
}

impl Home {
    /// A home of so many entities, as it stands at `now`, with a past.
    #[must_use]
    pub fn new(seed: u64, entities: usize, now: Timestamp) -> Self {
        let mut home = Self {
            entities: Vec::with_capacity(entities),
            devices: Vec::new(),
            notifications: Vec::new(),
            places: HashMap::with_capacity(entities),
            states: Vec::with_capacity(entities),
            records: Records::default(),
            random: Random::new(seed),
            clock: now.as_micros(),
            began: seconds(now),
            asleep: None,
            has_no_recorder: false,
            trouble: Trouble::default(),
            next_event: 0,
        };
        home.furnish(entities);
        home
    }

    /// The present states, in the order in which the entities came.
    pub fn states(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<State>)> {
        self.entities.iter().zip(&self.states).filter_map(|(entity, state)| Some((&entity.id, state.as_ref()?)))
    }

    #[must_use]
    pub fn state(&self, entity_id: &str) -> Option<&Arc<State>> {
        self.states[*self.places.get(entity_id)?].as_ref()
    }

    #[must_use]
    pub fn entity(&self, entity_id: &str) -> Option<&Entity> {
        self.places.get(entity_id).map(|place| &self.entities[*place])
    }

    /// Something in the home changes. `None` if there is nothing that could.
    pub fn next_change(&mut self, now: Timestamp) -> Option<Change> {
        let count = u32::try_from(self.entities.len()).expect("far below four billion entities");
        // A meter that has not moved since its last value is passed over; in any real mix the first try mostly works.
        (0..1000).find_map(|_| {
            let place = self.random.below(count.max(1)) as usize;
            self.advance(place, now)
        })
    }

    /// The entity at this place takes its next value. `None` if that is the one it has, or if it was removed.
    pub(super) fn advance(&mut self, place: usize, now: Timestamp) -> Option<Change> {
        self.states.get(place)?.as_ref()?;
        let entity = &mut self.entities[place];
        if entity.kind == Kind::Foreign {
            return None;
        }
        entity.step += 1;
        let step = entity.step;
        let at = self.tick(now);
        let entity = &self.entities[place];
        let (state, attributes) = values::value(entity.source(), at, step, &mut self.random);
        self.write(place, &state, attributes, at, None)
    }

    /// Sets a state as an integration would. `None` if it is what the entity already has. An unknown entity is added.
    pub fn set(&mut self, entity_id: &str, state: &str, attributes: Attributes, now: Timestamp) -> Option<Change> {
        let place = self.place(entity_id);
        let at = self.tick(now);
        self.write(place, state, attributes, at, None)
    }

    /// Sets the state and the named attributes for a service that a user called; everything else stays.
    pub(super) fn serve(
        &mut self,
        entity_id: &str,
        state: &str,
        changed: Vec<(Arc<str>, Value)>,
        context: &Context,
        now: Timestamp,
    ) -> Option<Change> {
        let place = *self.places.get(entity_id)?;
        let mut attributes = self.states[place].as_ref()?.attributes.clone();
        for (name, value) in changed {
            attributes.set(name, value);
        }
        let at = self.tick(now);
        self.write(place, state, attributes, at, Some(context.clone()))
    }

    pub fn remove(&mut self, entity_id: &str, now: Timestamp) -> Option<Change> {
        let place = *self.places.get(entity_id)?;
        let old = self.states[place].take()?;
        let at = self.tick(now);
        self.records.add(place, at, None);
        let context = self.context(at, None);
        Some(Change { entity_id: Arc::clone(&self.entities[place].id), old: Some(old), new: None, at, context })
    }

    /// Puts an entity into another area, as a user does in the settings.
    pub fn move_to_area(&mut self, entity_id: &str, area: &str, now: Timestamp) -> Option<Happening> {
        let place = *self.places.get(entity_id)?;
        let before = self.entities[place].area_id.replace(slug(area));
        let mut data = format!("{{\"action\":\"update\",\"entity_id\":\"{entity_id}\",\"changes\":{{\"area_id\":");
        super::json::push_optional(&mut data, before.as_deref());
        data.push_str("}}");
        Some(self.fire("entity_registry_updated", data, None, now))
    }

    /// Gives an entity another name, as a user does in the settings. Its past goes with it, unless the new name has a past
    /// of its own: then Home Assistant leaves both where they are.
    pub fn rename(&mut self, entity_id: &str, new_id: &str, now: Timestamp) -> Vec<Happening> {
        let Some(mut place) = self.places.get(entity_id).copied() else { return Vec::new() };
        let Some(removed) = self.remove(entity_id, now) else { return Vec::new() };
        let old = removed.old.clone().expect("it was there to be removed");
        if let Some(other) = self.places.get(new_id).copied() {
            let id = std::mem::replace(&mut self.entities[place].registry_id, self.random.hex());
            self.entities[other].registry_id = id;
            place = other;
        } else {
            self.places.remove(entity_id);
            self.entities[place].id = new_id.into();
            self.places.insert(new_id.into(), place);
        }
        let at = self.tick(now);
        let data = format!(
            "{{\"action\":\"update\",\"entity_id\":\"{new_id}\",\"old_entity_id\":\"{entity_id}\",\
             \"changes\":{{\"entity_id\":\"{entity_id}\"}}}}"
        );
        let mut happened = vec![self.fire("entity_registry_updated", data, None, now), Happening::State(removed)];
        happened.extend(self.write(place, &old.state, old.attributes.clone(), at, None).map(Happening::State));
        happened
    }

    /// Something that is no change of a state: an automation is triggered, a script is started, a service is called.
    pub fn next_event(&mut self, now: Timestamp) -> Happening {
        const EVENTS: [(&str, &str); 4] = [
            (
                "automation_triggered",
                r#"{"name":"Light at night","entity_id":"automation.light_at_night","source":"state of binary_sensor.living_room_motion"}"#,
            ),
            (
                "call_service",
                r#"{"domain":"light","service":"turn_on","service_data":{"brightness_pct":40,"entity_id":["light.living_room_light"]}}"#,
            ),
            ("script_started", r#"{"name":"Good night","entity_id":"script.good_night"}"#),
            (
                "call_service",
                r#"{"domain":"notify","service":"persistent_notification","service_data":{"message":"The cellar is damp"}}"#,
            ),
        ];
        let (event_type, data) = EVENTS[self.next_event];
        self.next_event = (self.next_event + 1) % EVENTS.len();
        self.fire(event_type, data.to_owned(), None, now)
    }

    /// Any event, with `data` a JSON object.
    pub fn fire(&mut self, event_type: &str, data: String, user: Option<&'static str>, now: Timestamp) -> Happening {
        let at = self.tick(now);
        let context = self.context(at, user);
        Happening::Other { event_type: event_type.to_owned(), data, at, context }
    }

    /// A context for something that happens now.
    pub(super) fn context(&mut self, at: f64, user_id: Option<&'static str>) -> Context {
        Context { id: self.random.ulid(whole(at * 1e3).unsigned_abs()), user_id }
    }

    /// What was, in the order of time, with the time of each: the made-up past first, then what really happened here.
    /// `None` is a removal. Reaches at most `past` seconds before the home's first moment.
    pub(super) fn past(&self, entity_id: &str, from: f64, to: f64, past: f64) -> Vec<(f64, Option<Arc<State>>)> {
        let Some(place) = self.places.get(entity_id) else { return Vec::new() };
        let entity = &self.entities[*place];
        let to = self.records.until().map_or(to, |until| to.min(until));
        let mut rows = Vec::new();
        if entity.kind != Kind::Foreign && from < self.began {
            let first = past::slot(from.max(self.began - past));
            let last = past::slot(to.min(self.began));
            let made = past::states(entity.source(), entity.seed, first, last).into_iter();
            rows.extend(made.map(|state| (state.last_updated, Some(Arc::new(state)))));
            rows.retain(|(at, _)| *at < self.began);
        }
        rows.extend(self.records.of(*place, from, to));
        rows.retain(|(at, _)| *at > from && *at < to);
        rows
    }

    /// The recorder queues what happens from now on, as it does during a backup, until it is told to write again.
    pub fn hold_recorder(&mut self, hold: bool) {
        let now = self.moment();
        self.records.hold(hold.then_some(now));
    }

    /// Sets the interval between two commits of the recorder, like Home Assistant's option `commit_interval`. Uncommitted rows
    /// are in neither the history nor the backlog.
    pub fn commit_every(&mut self, seconds: u32) {
        let now = self.moment();
        self.records.commit_every(f64::from(seconds), now);
    }

    /// Commits if the interval has passed at `now`.
    pub(super) fn pass(&mut self, now: Timestamp) {
        self.records.pass(seconds(now));
    }

    /// Commits at once, unless the recorder is held. Returns whether it did.
    pub(super) fn commit(&mut self, now: Timestamp) -> bool {
        let now = seconds(now).max(self.moment());
        !self.trouble.never_commits && self.records.commit(now)
    }

    /// The moment after the last change.
    fn moment(&self) -> f64 {
        seconds(Timestamp::from_micros(self.clock + 1))
    }

    /// Begins a restart of Home Assistant: it answers, but has no entities yet.
    pub fn fall_asleep(&mut self) {
        let states = self.states.iter_mut().map(Option::take).collect();
        self.asleep.get_or_insert(states);
    }

    #[must_use]
    pub fn is_starting(&self) -> bool {
        self.asleep.is_some()
    }

    /// Ends the start: every entity is restored to its last state, with a new time.
    pub fn wake_up(&mut self, now: Timestamp) -> Vec<Change> {
        let mut changes = Vec::new();
        for (place, old) in self.asleep.take().into_iter().flatten().enumerate() {
            let Some(old) = old else { continue };
            let at = self.tick(now);
            changes.extend(self.write(place, &old.state, old.attributes.clone(), at, None));
        }
        changes
    }

    /// Whether there is a recorder to ask; it records all the same.
    pub fn unload_recorder(&mut self, unload: bool) {
        self.has_no_recorder = unload;
    }

    /// What happens to this entity from now on is not recorded.
    pub fn leave_unrecorded(&mut self, entity_id: &str) {
        self.records.left_out.extend(self.places.get(entity_id));
    }

    /// What happened before is not in the history any more.
    pub fn purge(&mut self, before: f64) {
        self.records.purge(before);
        self.began = f64::MIN;
    }

    /// Every entity has the state that it had, with new times: so Home Assistant restores them at its start.
    pub fn restore_all(&mut self, now: Timestamp) {
        for place in 0..self.states.len() {
            let Some(old) = self.states[place].clone() else { continue };
            let at = self.tick(now);
            let new = Arc::new(State { last_changed: at, last_updated: at, ..(*old).clone() });
            self.states[place] = Some(Arc::clone(&new));
            self.records.add(place, at, Some(new));
        }
    }

    /// How much the recorder has queued.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.records.queued()
    }

    /// When the home came to be: before this its past is made up.
    #[must_use]
    pub fn began(&self) -> f64 {
        self.began
    }

    /// The entity at this place, unless it was removed.
    pub(super) fn present(&self, place: usize) -> Option<(&Arc<str>, &Arc<State>)> {
        Some((&self.entities[place].id, self.states[place].as_ref()?))
    }

    /// What the entity at this place could report so many values from now. Nothing changes.
    pub(super) fn possible(&self, place: usize, steps: u64, random: &mut Random) -> (String, Attributes) {
        let entity = &self.entities[place];
        match &self.states[place] {
            Some(state) if entity.kind == Kind::Foreign => (state.state.to_string(), state.attributes.clone()),
            _ => {
                let at = seconds(Timestamp::from_micros(self.clock));
                values::value(entity.source(), at, entity.step + 1 + steps, random)
            }
        }
    }

    /// The clock that the home's own times follow, for a caller that makes changes outside of it.
    pub(super) fn clock(&self) -> i64 {
        self.clock
    }

    /// Takes over what a caller made outside: the state is as given, nothing is recorded.
    pub(super) fn settle(&mut self, place: usize, state: State, clock: i64) {
        self.clock = self.clock.max(clock);
        self.states[place] = Some(Arc::new(state));
    }

    fn furnish(&mut self, entities: usize) {
        let mut rooms = ROOMS.iter().cycle();
        let mut taken = HashMap::new();
        // One of each model first, then a second of those that are common, and so on; then the same again.
        let rounds = MODELS.iter().map(|model| model.share).max().unwrap_or(1);
        let order = (0..rounds).flat_map(|round| MODELS.iter().filter(move |model| model.share > round));
        for model in order.cycle() {
            if self.entities.len() >= entities {
                return;
            }
            let room = if model.roomless { None } else { rooms.next().map(|(name, _)| *name) };
            self.install(model, room, entities, &mut taken);
        }
    }

    fn install(
        &mut self,
        model: &'static Model,
        room: Option<&str>,
        entities: usize,
        taken: &mut HashMap<String, usize>,
    ) {
        let place = room.unwrap_or(model.name);
        let device = Device {
            id: self.random.hex(),
            name: format!("{place} {}", model.name),
            model,
            area_id: room.map(slug),
            serial_number: format!("{:012X}", self.random.draw() >> 16),
        };
        self.devices.push(device);
        for kind in model.kinds.iter().copied().take(entities - self.entities.len()) {
            let base = format!("{place} {}", kind.name());
            let count = taken.entry(format!("{}.{}", kind.domain(), slug(&base))).and_modify(|n| *n += 1).or_insert(1);
            let name = if *count == 1 { base } else { format!("{base} {count}") };
            let id = format!("{}.{}", kind.domain(), slug(&name));
            // Helpers belong to no device.
            let device = (!matches!(kind, Kind::Note | Kind::Target)).then(|| self.devices.len() - 1);
            self.add(&id, kind, name, device);
        }
    }

    fn add(&mut self, id: &str, kind: Kind, name: String, device: Option<usize>) -> usize {
        let place = self.entities.len();
        let id: Arc<str> = id.into();
        let seed = self.random.draw();
        let registry_id = self.random.hex();
        let entity =
            Entity { id: Arc::clone(&id), kind, name, device, area_id: None, registry_id, seed, step: seed % 1000 };
        let slot = past::slot(self.began);
        let mut state = None;
        if kind != Kind::Foreign {
            let mut states = past::states(entity.source(), seed, slot - 12, slot);
            states.retain(|state| state.last_updated < self.began);
            state = states.pop();
        }
        self.places.insert(id, place);
        self.entities.push(entity);
        self.states.push(state.map(Arc::new));
        if kind != Kind::Foreign && self.states[place].is_none() {
            // Nothing happened to it for an hour: then something happens as the home begins.
            let began = Timestamp::from_unix_seconds(self.began).expect("the simulated clock stays in this century");
            let at = self.tick(began);
            let (state, attributes) = values::value(self.entities[place].source(), at, 0, &mut self.random);
            self.write(place, &state, attributes, at, None);
        }
        place
    }

    fn place(&mut self, entity_id: &str) -> usize {
        match self.places.get(entity_id) {
            Some(place) => *place,
            None => self.add(entity_id, Kind::Foreign, entity_id.to_owned(), None),
        }
    }

    /// The time of the next change. Two microseconds apart at least: the part of a microsecond that is added, as
    /// Python's clock has one, must not make two times the same after rounding.
    pub(super) fn tick(&mut self, now: Timestamp) -> f64 {
        self.clock = now.as_micros().max(self.clock + 2);
        seconds(Timestamp::from_micros(self.clock)) + self.random.between(0.0, 0.4e-6)
    }

    fn write(
        &mut self,
        place: usize,
        state: &str,
        attributes: Attributes,
        at: f64,
        context: Option<Context>,
    ) -> Option<Change> {
        let old = self.states[place].clone();
        let same_state = old.as_ref().is_some_and(|old| *old.state == *state);
        if same_state && old.as_ref().is_some_and(|old| old.attributes == attributes) {
            return None;
        }
        let last_changed = old.as_ref().filter(|_| same_state).map_or(at, |old| old.last_changed);
        let context = context.unwrap_or_else(|| self.context(at, None));
        let new = Arc::new(State {
            state: state.into(),
            attributes,
            last_changed,
            last_updated: at,
            context: context.clone(),
        });
        self.states[place] = Some(Arc::clone(&new));
        self.records.add(place, at, Some(Arc::clone(&new)));
        Some(Change { entity_id: Arc::clone(&self.entities[place].id), old, new: Some(new), at, context })
    }
}

impl Entity {
    fn source(&self) -> Source<'_> {
        Source {
            kind: self.kind,
            name: &self.name,
            character: f64::from((self.seed >> 32) as u32) / f64::from(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::{Home, RAW_PAST};
    use crate::demo::time::seconds;
    use crate::model::entity::EntityId;
    use crate::model::time::Timestamp;

    const NOW: Timestamp = Timestamp::from_micros(1_795_448_984_123_456);

    #[test]
    fn equal_seeds_make_equal_homes_and_others_do_not() {
        let play = |seed| {
            let mut home = Home::new(seed, 150, NOW);
            let changes: Vec<_> = (0..300).filter_map(|_| home.next_change(NOW)).map(|change| change.entry()).collect();
            (home.states().map(|(id, state)| (id.clone(), state.clone())).collect::<Vec<_>>(), changes)
        };
        assert_eq!(play(7), play(7));
        assert_ne!(play(7), play(8));
    }

    #[test]
    fn every_size_has_as_many_entities_with_names_that_differ() {
        for size in [0, 1, 23, 500, 10_000] {
            let home = Home::new(1, size, NOW);
            let ids: HashSet<_> = home.states().map(|(id, _)| id).collect();
            assert_eq!(ids.len(), size);
            assert!(ids.iter().all(|id| EntityId::parse(id).is_ok()));
        }
    }

    #[test]
    fn the_mix_is_that_of_a_real_home() {
        let home = Home::new(1, 2000, NOW);
        let mut domains: HashMap<&str, usize> = HashMap::new();
        for (id, _) in home.states() {
            *domains.entry(id.split('.').next().unwrap()).or_default() += 1;
        }
        for (domain, percent) in [("sensor", 65), ("binary_sensor", 11), ("light", 7), ("switch", 6), ("climate", 4)] {
            let share = domains[domain] * 100 / 2000;
            assert!(share.abs_diff(percent) <= 3, "{domain}: {share} %");
        }
    }

    #[test]
    fn every_change_has_its_own_microsecond_and_really_changes_something() {
        let mut home = Home::new(3, 40, NOW);
        let mut last = i64::MIN;
        for _ in 0..5_000 {
            let change = home.next_change(NOW).unwrap();
            let micros = change.entry().last_updated.as_micros();
            assert!(micros > last);
            last = micros;
            let (old, new) = (change.old.unwrap(), change.new.unwrap());
            assert!(old.state != new.state || old.attributes != new.attributes);
            let changed = if old.state == new.state { old.last_changed } else { new.last_updated };
            assert!(new.last_changed.total_cmp(&changed).is_eq());
        }
    }

    #[test]
    fn the_present_is_the_newest_row_of_the_past() {
        let home = Home::new(5, 300, NOW);
        for (id, state) in home.states() {
            let rows = home.past(id, f64::MIN, f64::MAX, RAW_PAST);
            assert_eq!(rows.last().and_then(|(_, state)| state.as_ref()), Some(state), "{id}");
        }
    }

    #[test]
    fn things_drop_out_now_and_then_and_come_back() {
        let mut home = Home::new(2, 100, NOW);
        let mut seen: HashMap<String, usize> = HashMap::new();
        for _ in 0..20_000 {
            let state = home.next_change(NOW).unwrap().new.unwrap().state.to_string();
            *seen.entry(state).or_default() += 1;
        }
        assert!((20..400).contains(&seen["unavailable"]), "{}", seen["unavailable"]);
        assert!(seen["unknown"] > 5);
    }

    #[test]
    fn a_held_recorder_queues_and_then_tells() {
        let mut home = Home::new(2, 10, NOW);
        home.hold_recorder(true);
        let change = home.next_change(NOW).unwrap();
        let tells = |home: &Home| home.past(&change.entity_id, seconds(NOW), f64::MAX, RAW_PAST).len();
        assert_eq!((home.backlog(), tells(&home)), (1, 0));
        home.hold_recorder(false);
        assert_eq!((home.backlog(), tells(&home)), (0, 1));
    }
}
