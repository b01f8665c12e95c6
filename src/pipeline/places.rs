//! Which registry tags an entity's points have: those that were in force at the time of the point.
//!
//! Who moves a lamp to another room does not move its past. So each entity keeps what it was called and since when, and a
//! point of an earlier time that is written again has the tags that it had. Pure; what is known can be written down and
//! read back.
//!
//! An entity that has another id from now on (Home Assistant renamed it) is another entity, as it is in the database.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::settings::RegistryTag;
use crate::model::entity::EntityId;
use crate::model::registries::{Named, Registered, Registries};
use crate::model::time::Timestamp;

/// Of each entity the last so many places are known.
const MOST_MOVES: usize = 8;
/// Entities that Home Assistant does not know any more, and whose late points still come.
const MOST_GONE: usize = 10_000;
/// Of what is written down.
const VERSION: u32 = 1;

/// The tags of all entities, now and before.
#[derive(Debug, Default, Clone)]
pub struct Places {
    /// Those that points get, and that are recorded, in the order of the option.
    tags: Vec<RegistryTag>,
    /// Of these nothing was recorded before: what is learned next holds for all the time before.
    unrecorded: Vec<RegistryTag>,
    entities: HashMap<EntityId, History>,
    /// Places, each kept once.
    known: HashSet<Arc<Place>>,
}

/// The registry tags of some points: by the name of the tag, only those that there are.
#[derive(Debug, Default, Clone, PartialEq, Eq, Hash)]
pub struct Place(pub Vec<(RegistryTag, String)>);

/// Where an entity was, oldest first.
#[derive(Debug, Clone, PartialEq)]
struct History {
    first: Move,
    /// Few entities ever move.
    later: Vec<Move>,
}

#[derive(Debug, Clone, PartialEq)]
struct Move {
    since: Timestamp,
    to: Arc<Place>,
}

/// Why what was written down is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("it is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    #[error("it is damaged: {0}")]
    Nonsense(&'static str),
    #[error(
        "it is of version {0}, and this program reads version {VERSION}: an older program may not read a newer one's"
    )]
    OtherVersion(u32),
}

impl Places {
    #[must_use]
    pub fn new(tags: &[RegistryTag]) -> Self {
        Self { tags: tags.to_vec(), ..Self::default() }
    }

    /// Points get these tags from now on. What is not known of them yet is learned next: ask [`Self::learn`] again.
    pub fn follow(&mut self, tags: &[RegistryTag]) {
        if self.tags == tags {
            return;
        }
        let dropped: Vec<_> = self.tags.iter().filter(|tag| !tags.contains(tag)).copied().collect();
        self.unrecorded.retain(|tag| tags.contains(tag));
        self.unrecorded.extend(tags.iter().filter(|tag| !self.tags.contains(tag)));
        self.tags = tags.to_vec();
        if self.tags.is_empty() {
            self.entities.clear();
            self.known.clear();
            return;
        }
        self.change_all(|_, place| place.0.retain(|(tag, _)| !dropped.contains(tag)));
    }

    /// What is known from now on holds for the points of an entity that are newer than `newest`, the last one that was made,
    /// and from `now` on if there is none; for the time before too if nothing was known then. So every point that was
    /// made keeps its tags, and the next one has those of the registries that the rules look at, whatever the clocks say.
    /// Returns whether anything is different, and so has to be written down.
    pub fn learn(
        &mut self,
        registries: &Registries,
        now: Timestamp,
        newest: impl Fn(&EntityId) -> Option<Timestamp>,
    ) -> bool {
        // Empty ones are those that nobody has read yet.
        if self.tags.is_empty() || registries.entities.is_empty() {
            return false;
        }
        let mut different = self.recall_unrecorded(registries);
        for (entity, registered) in &registries.entities {
            let to = self.place(registered);
            match self.entities.get_mut(entity) {
                Some(history) => different |= history.go(to, newest(entity).map(Timestamp::next), now),
                None => {
                    let first = Move { since: now, to };
                    self.entities.insert(entity.clone(), History { first, later: Vec::new() });
                    different = true;
                }
            }
        }
        self.forget(registries);
        different
    }

    /// What was in force at `time`. Two calls that give the same `Arc` give the same tags. `None` if nothing is known of
    /// the entity: Home Assistant registers only what has a unique id.
    #[must_use]
    pub fn of(&self, entity: &EntityId, time: Timestamp) -> Option<&Arc<Place>> {
        self.entities.get(entity).map(|history| history.at(time))
    }

    /// Tags that were not recorded until now are what they are now, for all the time before: nobody knows better.
    fn recall_unrecorded(&mut self, registries: &Registries) -> bool {
        let unrecorded = std::mem::take(&mut self.unrecorded);
        if unrecorded.is_empty() {
            return false;
        }
        self.change_all(|entity, place| {
            if let Some(registered) = registries.get(entity) {
                let values = unrecorded.iter().filter_map(|tag| Some((*tag, value(*tag, registered)?)));
                place.0.extend(values);
                place.0.sort_unstable();
            }
        });
        true
    }

    /// Changes every place that any entity was at.
    fn change_all(&mut self, change: impl Fn(&EntityId, &mut Place)) {
        self.known.clear();
        let known = &mut self.known;
        for (entity, history) in &mut self.entities {
            for at in history.moves_mut() {
                let mut place = (*at.to).clone();
                change(entity, &mut place);
                at.to = shared(known, place);
            }
            history.join_equal_neighbours();
        }
    }

    fn place(&mut self, registered: &Registered) -> Arc<Place> {
        let values = self.tags.iter().filter_map(|tag| Some((*tag, value(*tag, registered)?)));
        let mut place = Place(values.collect());
        place.0.sort_unstable();
        shared(&mut self.known, place)
    }

    /// Keeps the memory small: places where nobody is, and entities that are gone, those first that did not move for the
    /// longest.
    fn forget(&mut self, registries: &Registries) {
        let most = registries.entities.len() + MOST_GONE;
        if self.entities.len() > most {
            let gone = self.entities.iter().filter(|(entity, _)| !registries.entities.contains_key(*entity));
            let mut gone: Vec<_> = gone.map(|(entity, history)| (history.last().since, entity.clone())).collect();
            gone.sort_unstable_by(|(a, a_id), (b, b_id)| (a, a_id.as_str()).cmp(&(b, b_id.as_str())));
            for (_, entity) in gone.iter().take(self.entities.len() - most) {
                self.entities.remove(entity);
            }
        }
        self.known.retain(|place| Arc::strong_count(place) > 1);
    }

    /// What [`Self::from_json`] reads.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut numbers = HashMap::new();
        let mut places = Vec::new();
        let mut entities: Vec<_> = self.entities.iter().collect();
        entities.sort_unstable_by_key(|(entity, _)| entity.as_str());
        let written = entities.into_iter().map(|(entity, history)| {
            let moves = history.moves().map(|at| {
                let number = *numbers.entry(&*at.to).or_insert_with(|| {
                    places.push(at.to.0.iter().map(|(tag, value)| (*tag, value.as_str())).collect());
                    places.len() - 1
                });
                (at.since.as_micros(), number)
            });
            (entity.as_str(), moves.collect())
        });
        let entities = written.collect();
        let (tags, unrecorded) = (self.tags.clone(), self.unrecorded.clone());
        let written = Written { version: VERSION, tags, unrecorded, places, entities };
        serde_json::to_string(&written).expect("texts and numbers can always be written")
    }

    /// # Errors
    /// It is not whole, or not ours. Then nothing of it can be relied on: start with [`Self::new`].
    pub fn from_json(json: &str) -> Result<Self, ReadError> {
        let Version { version } = serde_json::from_str(json)?;
        if version != VERSION {
            return Err(ReadError::OtherVersion(version));
        }
        let read: Read = serde_json::from_str(json)?;
        let mut places = Self { tags: read.tags, unrecorded: read.unrecorded, ..Self::default() };
        let known: Vec<_> = read.places.into_iter().map(|place| shared(&mut places.known, Place(place))).collect();
        if known.iter().any(|place| !place.0.is_sorted() || !place.0.iter().all(|(tag, _)| places.tags.contains(tag))) {
            return Err(ReadError::Nonsense("a place has a tag that is not recorded"));
        }
        for (entity, moves) in read.entities {
            let entity = EntityId::parse(&entity).map_err(|_| ReadError::Nonsense("an entity id is none"))?;
            let mut moves = moves.into_iter().map(|(since, number)| {
                let to = known.get(number).cloned().ok_or(ReadError::Nonsense("a place is missing"))?;
                Ok::<_, ReadError>(Move { since: Timestamp::from_micros(since), to })
            });
            let first = moves.next().ok_or(ReadError::Nonsense("an entity was nowhere"))??;
            let history = History { first, later: moves.collect::<Result<_, _>>()? };
            if history.later.len() >= MOST_MOVES || !history.moves().is_sorted_by(|a, b| a.since < b.since) {
                return Err(ReadError::Nonsense("the moves of an entity are not in their order"));
            }
            places.entities.insert(entity, history);
        }
        Ok(places)
    }
}

impl History {
    fn at(&self, time: Timestamp) -> &Arc<Place> {
        &self.later.iter().rev().find(|at| at.since <= time).unwrap_or(&self.first).to
    }

    fn last(&self) -> &Move {
        self.later.last().unwrap_or(&self.first)
    }

    fn moves(&self) -> impl Iterator<Item = &Move> {
        std::iter::once(&self.first).chain(&self.later)
    }

    fn moves_mut(&mut self) -> impl Iterator<Item = &mut Move> {
        std::iter::once(&mut self.first).chain(&mut self.later)
    }

    /// `after_newest`: what was made before has the tags of before.
    fn go(&mut self, to: Arc<Place>, after_newest: Option<Timestamp>, now: Timestamp) -> bool {
        // What was known first holds for all the time before it too, so there may be points that are older.
        let earliest = self.first.since.next();
        let last = self.later.last_mut().unwrap_or(&mut self.first);
        if last.to == to {
            return false;
        }
        let since = after_newest.map_or(now, |since| since.max(earliest)).min(now);
        if since <= last.since {
            // No point was made there; or the clock was set back, or this machine has none and did not ask for the time yet.
            // No past is thrown away for that.
            last.to = to;
            self.join_equal_neighbours();
            return true;
        }
        self.later.push(Move { since, to });
        if self.later.len() >= MOST_MOVES {
            self.first = self.later.remove(0);
        }
        true
    }

    fn join_equal_neighbours(&mut self) {
        self.later.dedup_by(|next, before| next.to == before.to);
        while self.later.first().is_some_and(|next| next.to == self.first.to) {
            self.later.remove(0);
        }
    }
}

/// `None` for what is not there. An empty tag is none.
fn value(tag: RegistryTag, registered: &Registered) -> Option<String> {
    let name = |named: &Option<Arc<Named>>| named.as_ref().map(|named| named.name.to_string());
    let text = |text: &Option<Arc<str>>| text.as_ref().map(ToString::to_string);
    match tag {
        RegistryTag::Area => name(&registered.area),
        RegistryTag::Floor => name(&registered.floor),
        RegistryTag::Device => name(&registered.device),
        RegistryTag::Labels => {
            let names: Vec<_> = registered.labels.iter().map(|label| &*label.name).collect();
            Some(names.join(","))
        }
        RegistryTag::Platform => text(&registered.platform),
        RegistryTag::Category => text(&registered.category),
    }
    .filter(|value| !value.is_empty())
}

fn shared(known: &mut HashSet<Arc<Place>>, place: Place) -> Arc<Place> {
    if let Some(known) = known.get(&place) {
        return Arc::clone(known);
    }
    let place = Arc::new(place);
    known.insert(Arc::clone(&place));
    place
}

/// What is written down: places by number, because many entities are at the same one.
#[derive(Serialize)]
struct Written<'a> {
    version: u32,
    tags: Vec<RegistryTag>,
    unrecorded: Vec<RegistryTag>,
    places: Vec<Vec<(RegistryTag, &'a str)>>,
    /// With the moves of each: the time in microseconds, and the number of the place.
    entities: Vec<(&'a str, Vec<(i64, usize)>)>,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Deserialize)]
struct Read {
    tags: Vec<RegistryTag>,
    unrecorded: Vec<RegistryTag>,
    places: Vec<Vec<(RegistryTag, String)>>,
    entities: Vec<(String, Vec<(i64, usize)>)>,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{MOST_GONE, MOST_MOVES, Places, ReadError, Timestamp};
    use crate::config::settings::RegistryTag::{self, Area, Category, Device, Floor, Labels, Platform};
    use crate::model::entity::EntityId;
    use crate::model::registries::{Named, Registered, Registries};

    const ALL: [RegistryTag; 6] = [Area, Floor, Device, Labels, Platform, Category];

    fn named(name: &str) -> Arc<Named> {
        Arc::new(Named { name: name.into(), id: "id".into() })
    }

    fn id(entity: &str) -> EntityId {
        EntityId::parse(entity).unwrap()
    }

    /// Entities with their area (and that one's floor, behind a slash); none if it is empty.
    fn registries(places: &[(&str, &str)]) -> Registries {
        let registered = |place: &str| {
            let (area, floor) = place.split_once('/').unwrap_or((place, ""));
            let named = |name: &str| (!name.is_empty()).then(|| named(name));
            Registered { area: named(area), floor: named(floor), ..Registered::default() }
        };
        Registries { entities: places.iter().map(|(entity, place)| (id(entity), registered(place))).collect() }
    }

    fn learn(places: &mut Places, second: i64, known: &[(&str, &str)]) -> bool {
        places.learn(&registries(known), Timestamp::from_micros(second * 1_000_000), |_| None)
    }

    /// The tags of `sensor.a` at a second, as `area=Kitchen`.
    fn tags(places: &Places, second: i64) -> String {
        tags_of(places, "sensor.a", second)
    }

    fn tags_of(places: &Places, entity: &str, second: i64) -> String {
        let Some(place) = places.of(&id(entity), Timestamp::from_micros(second * 1_000_000)) else {
            return "unknown".into();
        };
        let tag = |(tag, value): &(RegistryTag, String)| {
            format!("{}={value}", serde_json::to_value(tag).unwrap().as_str().unwrap())
        };
        place.0.iter().map(tag).collect::<Vec<_>>().join(" ")
    }

    /// What is read back must be what was written, whatever it is.
    fn written_and_read(places: &Places) -> Places {
        let json = places.to_json();
        let read = Places::from_json(&json).unwrap();
        assert_eq!(read.entities, places.entities);
        assert_eq!(read.to_json(), json);
        read
    }

    #[test]
    fn a_point_has_the_tags_of_its_time() {
        let mut places = Places::new(&[Area]);
        assert!(learn(&mut places, 100, &[("sensor.a", "Kitchen"), ("sensor.b", "")]));
        assert!(!learn(&mut places, 150, &[("sensor.a", "Kitchen"), ("sensor.b", "")]));
        assert!(learn(&mut places, 200, &[("sensor.a", "Bath"), ("sensor.b", "Bath")]));
        assert!(learn(&mut places, 300, &[("sensor.a", "Küche"), ("sensor.b", "")]));
        let places = written_and_read(&places);
        for (second, of_a, of_b) in [
            (0, "area=Kitchen", ""),
            (100, "area=Kitchen", ""),
            (199, "area=Kitchen", ""),
            (200, "area=Bath", "area=Bath"),
            (299, "area=Bath", "area=Bath"),
            (300, "area=Küche", ""),
            (900, "area=Küche", ""),
        ] {
            assert_eq!((&*tags(&places, second), &*tags_of(&places, "sensor.b", second)), (of_a, of_b), "{second}");
        }
        assert_eq!(tags_of(&places, "sensor.c", 100), "unknown");
    }

    #[test]
    fn a_move_holds_from_right_after_the_last_point_that_was_made() {
        let learn = |places: &mut Places, second: i64, newest: i64, area: &str| {
            let [now, newest] = [second, newest].map(|second| Timestamp::from_micros(second * 1_000_000));
            places.learn(&registries(&[("sensor.a", area)]), now, |_| Some(newest))
        };
        let mut places = Places::new(&[Area]);
        learn(&mut places, 100, 50, "Kitchen");
        assert!(learn(&mut places, 200, 150, "Bath"));
        assert_eq!((&*tags(&places, 150), &*tags(&places, 151)), ("area=Kitchen", "area=Bath"));
        // Two moves and no point between them: nothing was ever in the hall.
        learn(&mut places, 300, 250, "Hall");
        assert!(learn(&mut places, 310, 250, "Attic"));
        assert_eq!((&*tags(&places, 250), &*tags(&places, 251)), ("area=Bath", "area=Attic"));
        assert_eq!(places.entities["sensor.a"].moves().count(), 3);
        // A source whose clock is ahead.
        learn(&mut places, 400, 900, "Cellar");
        assert_eq!((&*tags(&places, 399), &*tags(&places, 400)), ("area=Attic", "area=Cellar"));
        written_and_read(&places);

        // A state that is older than what is known of it, and that never changed since.
        let mut places = Places::new(&[Area]);
        learn(&mut places, 100, 50, "Kitchen");
        learn(&mut places, 200, 50, "Bath");
        assert_eq!((&*tags(&places, 50), &*tags(&places, 101)), ("area=Kitchen", "area=Bath"));
    }

    #[test]
    fn an_entity_that_is_gone_keeps_its_last_place_and_a_renamed_one_begins_anew() {
        let mut places = Places::new(&[Area]);
        learn(&mut places, 100, &[("sensor.a", "Kitchen")]);
        learn(&mut places, 200, &[("sensor.a", "Bath")]);
        assert!(learn(&mut places, 300, &[("sensor.new", "Hall")]));
        assert_eq!((&*tags(&places, 150), &*tags(&places, 400)), ("area=Kitchen", "area=Bath"));
        assert_eq!(tags_of(&places, "sensor.new", 150), "area=Hall");
    }

    #[test]
    fn every_tag_has_its_name_and_an_empty_one_is_none() {
        let registered = Registered {
            id: None,
            area: Some(named("A")),
            floor: Some(named("F")),
            device: Some(named("D")),
            labels: Arc::new([named("L1"), named("L2")]),
            platform: Some("hue".into()),
            category: Some("config".into()),
        };
        let registries = Registries { entities: [(id("sensor.a"), registered)].into() };
        let mut places = Places::new(&ALL);
        places.learn(&registries, Timestamp::from_micros(0), |_| None);
        assert_eq!(tags(&places, 0), "area=A floor=F device=D labels=L1,L2 platform=hue category=config");
        learn(&mut places, 1, &[("sensor.a", "")]);
        assert_eq!(tags(&places, 1), "");
        let mut none = Places::new(&[]);
        assert!(!none.learn(&registries, Timestamp::from_micros(0), |_| None));
        assert_eq!((tags(&none, 0), none.entities.len()), ("unknown".into(), 0));
    }

    #[test]
    fn a_tag_that_was_not_recorded_has_been_what_it_is_now() {
        let mut places = Places::new(&[Area]);
        learn(&mut places, 100, &[("sensor.a", "Kitchen/Ground floor"), ("sensor.gone", "Hall")]);
        learn(&mut places, 200, &[("sensor.a", "Bath/First floor")]);
        places.follow(&[Area, Floor]);
        // It was stopped before it learned anything.
        let mut places = written_and_read(&places);
        assert_eq!(tags(&places, 150), "area=Kitchen");
        assert!(learn(&mut places, 300, &[("sensor.a", "Bath/First floor")]));
        assert_eq!(tags(&places, 150), "area=Kitchen floor=First floor");
        assert_eq!(tags(&places, 250), "area=Bath floor=First floor");
        assert_eq!(tags_of(&places, "sensor.gone", 250), "area=Hall");
        assert!(learn(&mut places, 400, &[("sensor.a", "Bath/Attic")]));
        assert_eq!(tags(&places, 350), "area=Bath floor=First floor");
        // Without the areas, both rooms are the same place.
        places.follow(&[Floor]);
        assert_eq!((&*tags(&places, 150), &*tags(&places, 400)), ("floor=First floor", "floor=Attic"));
        assert_eq!(places.entities["sensor.a"].later.len(), 1);
        places.follow(&[Floor, Area]);
        assert!(learn(&mut places, 500, &[("sensor.a", "Bath/Attic")]));
        assert_eq!(tags(&places, 150), "area=Bath floor=First floor");
        places.follow(&[]);
        assert_eq!((tags(&places, 150), places.known.len()), ("unknown".into(), 0));
    }

    #[test]
    fn registries_that_nobody_has_read_yet_teach_nothing() {
        let mut places = Places::new(&[Area]);
        learn(&mut places, 100, &[("sensor.a", "Kitchen/Ground floor")]);
        places.follow(&[Area, Floor]);
        assert!(!learn(&mut places, 200, &[]));
        assert!(learn(&mut places, 300, &[("sensor.a", "Kitchen/Ground floor")]));
        assert_eq!(tags(&places, 150), "area=Kitchen floor=Ground floor");
    }

    #[test]
    fn a_clock_that_is_set_back_costs_no_past() {
        let mut places = Places::new(&[Area]);
        learn(&mut places, 100, &[("sensor.a", "Kitchen")]);
        learn(&mut places, 200, &[("sensor.a", "Bath")]);
        assert!(!learn(&mut places, 0, &[("sensor.a", "Bath")]));
        assert!(learn(&mut places, 1, &[("sensor.a", "Hall")]));
        assert_eq!((&*tags(&places, 150), &*tags(&places, 200)), ("area=Kitchen", "area=Hall"));
        assert!(learn(&mut places, 2, &[("sensor.a", "Kitchen")]));
        assert_eq!(places.entities["sensor.a"].later, []);
        written_and_read(&places);
    }

    #[test]
    fn what_is_kept_is_bounded_and_held_once() {
        let mut places = Places::new(&[Area]);
        for second in 0..100 {
            let area = format!("Room {second}");
            learn(&mut places, second, &[("sensor.a", &area), ("sensor.b", &area)]);
        }
        assert_eq!(places.entities["sensor.a"].moves().count(), MOST_MOVES);
        assert_eq!(places.known.len(), MOST_MOVES);
        assert_eq!((&*tags(&places, 0), &*tags(&places, 95)), ("area=Room 92", "area=Room 95"));
        let now = Timestamp::from_micros(99_000_000);
        assert!(Arc::ptr_eq(places.of(&id("sensor.a"), now).unwrap(), places.of(&id("sensor.b"), now).unwrap()));
        written_and_read(&places);

        let all: Vec<_> = (0..MOST_GONE + 10).map(|number| format!("sensor.e{number}")).collect();
        learn(&mut places, 200, &all.iter().map(|entity| (entity.as_str(), "Hall")).collect::<Vec<_>>());
        learn(&mut places, 300, &[("sensor.last", "Bath")]);
        assert_eq!(places.entities.len(), 1 + MOST_GONE);
        assert_eq!(tags(&places, 0), "unknown", "it did not move for the longest");
    }

    #[test]
    fn what_is_damaged_or_of_another_version_is_told_apart_from_what_is_ours() {
        let mut places = Places::new(&[Area]);
        learn(&mut places, 100, &[("sensor.a", "Kitchen")]);
        learn(&mut places, 200, &[("sensor.a", "Bath")]);
        let json = places.to_json();
        let expected = concat!(
            r#"{"version":1,"tags":["area"],"unrecorded":[],"places":[[["area","Kitchen"]],[["area","Bath"]]],"#,
            r#""entities":[["sensor.a",[[100000000,0],[200000000,1]]]]}"#
        );
        assert_eq!(json, expected);
        for (from, to) in [
            ("sensor.a", "sensora"),
            (",1]", ",2]"),
            ("[200000000", "[100000000"),
            ("\"tags\":[\"area\"]", "\"tags\":[]"),
            ("[[100000000,0],[200000000,1]]", "[]"),
        ] {
            assert!(matches!(Places::from_json(&json.replace(from, to)), Err(ReadError::Nonsense(_))), "{from}");
        }
        assert!(matches!(Places::from_json(r#"{"version":2,"new":1}"#), Err(ReadError::OtherVersion(2))));
        for cut in 0..json.len() {
            assert!(matches!(Places::from_json(&json[..cut]), Err(ReadError::Damaged(_))), "{cut}");
        }
    }
}
