//! The five lists of Home Assistant's registries, made one answer for each entity.
//!
//! Pure. What the rest of the service wants to know of an entity is spread over the lists: its device is in one, the
//! area of the device in another. Names and whole sets of labels that are the same are held once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::entity::EntityId;
use crate::model::registries::{Named, Registered, Registries};

use super::protocol::{Registry, Row, read_rows};
use crate::model::json::Text;

/// Devices that are parts of devices: real ones have two levels. A circle would have no end.
const MOST_PARENTS: usize = 8;

/// The rows that came so far. Their text is their own: each list comes in a frame of its own.
#[derive(Default)]
pub struct Gathered {
    entities: Vec<Entity>,
    devices: HashMap<Arc<str>, Device>,
    areas: HashMap<Arc<str>, Area>,
    floors: HashMap<Arc<str>, Arc<Named>>,
    labels: HashMap<Arc<str>, Arc<Named>>,
    texts: Texts,
}

struct Entity {
    id: EntityId,
    registry_id: Option<Arc<str>>,
    area: Option<Arc<str>>,
    device: Option<Arc<str>>,
    labels: Box<[Arc<str>]>,
    platform: Option<Arc<str>>,
    category: Option<Arc<str>>,
}

struct Device {
    named: Arc<Named>,
    area: Option<Arc<str>>,
    parent: Option<Arc<str>>,
    labels: Box<[Arc<str>]>,
}

struct Area {
    named: Arc<Named>,
    floor: Option<Arc<str>>,
    labels: Box<[Arc<str>]>,
}

impl Gathered {
    /// Takes one list, in the place of what was there of this registry. Returns how many rows could not be read.
    pub fn take(&mut self, registry: Registry, json: &str) -> u64 {
        let read = read_rows(json);
        let rows = read.rows.into_iter();
        let texts = &mut self.texts;
        let mut unreadable = read.unreadable;
        match registry {
            Registry::Entities => {
                self.entities.clear();
                for row in rows {
                    // It has no states.
                    if row.disabled_by.is_some() {
                        continue;
                    }
                    match Entity::of(&row, texts) {
                        Some(entity) => self.entities.push(entity),
                        None => unreadable += 1,
                    }
                }
            }
            Registry::Devices => unreadable += fill(&mut self.devices, rows, |row| Device::of(row, texts)),
            Registry::Areas => unreadable += fill(&mut self.areas, rows, |row| Area::of(row, texts)),
            Registry::Floors => {
                unreadable +=
                    fill(&mut self.floors, rows, |row| named(row.floor_id.as_ref(), row.name.as_ref(), texts));
            }
            Registry::Labels => {
                unreadable +=
                    fill(&mut self.labels, rows, |row| named(row.label_id.as_ref(), row.name.as_ref(), texts));
            }
        }
        unreadable
    }

    /// Makes one of all. What a list does not name, because Home Assistant has no such registry or it did not come, is
    /// called by its id.
    #[must_use]
    pub fn assemble(mut self) -> Registries {
        let mut sets = HashMap::new();
        let mut entities = HashMap::with_capacity(self.entities.len());
        for entity in std::mem::take(&mut self.entities) {
            let device = entity.device.as_ref().and_then(|id| self.devices.get(id));
            let area_id = entity.area.clone().or_else(|| self.area_of(device));
            let mut ids: Vec<_> = entity.labels.into_vec();
            ids.extend(device.iter().flat_map(|device| device.labels.iter().cloned()));
            let device = device.map(|device| Arc::clone(&device.named));
            let (area, floor_id) = match area_id {
                None => (None, None),
                Some(id) => {
                    let area = self.areas.entry(id).or_insert_with_key(Area::unknown);
                    ids.extend(area.labels.iter().cloned());
                    (Some(Arc::clone(&area.named)), area.floor.clone())
                }
            };
            let floor = floor_id.map(|id| name_of(&mut self.floors, id));
            let labels = self.labels(ids, &mut sets);
            let Entity { id, registry_id, platform, category, .. } = entity;
            entities.insert(id, Registered { id: registry_id, area, floor, device, labels, platform, category });
        }
        Registries { entities }
    }

    /// Where a device is: where it says, or where the one is that it is a part of. The device that it talks through
    /// (`via_device_id`) is elsewhere.
    fn area_of(&self, device: Option<&Device>) -> Option<Arc<str>> {
        let mut device = device?;
        for _ in 0..MOST_PARENTS {
            if device.area.is_some() {
                return device.area.clone();
            }
            device = self.devices.get(device.parent.as_ref()?)?;
        }
        None
    }

    fn labels(&mut self, mut ids: Vec<Arc<str>>, sets: &mut LabelSets) -> Arc<[Arc<Named>]> {
        ids.sort_unstable();
        ids.dedup();
        if let Some(known) = sets.get(&ids) {
            return Arc::clone(known);
        }
        let mut set: Vec<_> = ids.iter().map(|id| name_of(&mut self.labels, Arc::clone(id))).collect();
        set.sort_unstable();
        let set: Arc<[_]> = set.into();
        sets.insert(ids, Arc::clone(&set));
        set
    }
}

type LabelSets = HashMap<Vec<Arc<str>>, Arc<[Arc<Named>]>>;

impl Entity {
    fn of(row: &Row<'_>, texts: &mut Texts) -> Option<Self> {
        Some(Self {
            id: EntityId::parse(&row.entity_id.as_ref()?.0).ok()?,
            registry_id: texts.of(row.id.as_ref()),
            area: texts.of(row.area_id.as_ref()),
            device: texts.of(row.device_id.as_ref()),
            labels: texts.all(row.labels.as_ref()),
            platform: texts.of(row.platform.as_ref()),
            category: texts.of(row.entity_category.as_ref()),
        })
    }
}

impl Device {
    fn of(row: &Row<'_>, texts: &mut Texts) -> Option<(Arc<str>, Self)> {
        let given = row.name_by_user.as_ref().filter(|name| !name.0.is_empty());
        let (id, named) = named(row.id.as_ref(), given.or(row.name.as_ref()), texts)?;
        let area = texts.of(row.area_id.as_ref());
        let parent = texts.of(row.parent_device_id.as_ref());
        Some((id, Self { named, area, parent, labels: texts.all(row.labels.as_ref()) }))
    }
}

impl Area {
    fn of(row: &Row<'_>, texts: &mut Texts) -> Option<(Arc<str>, Self)> {
        let (id, named) = named(row.area_id.as_ref(), row.name.as_ref(), texts)?;
        Some((id, Self { named, floor: texts.of(row.floor_id.as_ref()), labels: texts.all(row.labels.as_ref()) }))
    }

    fn unknown(id: &Arc<str>) -> Self {
        Self { named: called_by_its_id(id), floor: None, labels: Box::default() }
    }
}

/// Fills a table anew. Returns how many rows have no id.
fn fill<'a, T>(
    table: &mut HashMap<Arc<str>, T>,
    rows: impl Iterator<Item = Row<'a>>,
    mut read: impl FnMut(&Row<'a>) -> Option<(Arc<str>, T)>,
) -> u64 {
    table.clear();
    let mut unreadable = 0;
    for row in rows {
        match read(&row) {
            Some((id, entry)) => {
                table.insert(id, entry);
            }
            None => unreadable += 1,
        }
    }
    unreadable
}

fn named(id: Option<&Text<'_>>, name: Option<&Text<'_>>, texts: &mut Texts) -> Option<(Arc<str>, Arc<Named>)> {
    let id = texts.of(id)?;
    let name = texts.of(name).unwrap_or_else(|| Arc::clone(&id));
    Some((Arc::clone(&id), Arc::new(Named { name, id })))
}

fn name_of(table: &mut HashMap<Arc<str>, Arc<Named>>, id: Arc<str>) -> Arc<Named> {
    Arc::clone(table.entry(id).or_insert_with_key(called_by_its_id))
}

fn called_by_its_id(id: &Arc<str>) -> Arc<Named> {
    Arc::new(Named { name: Arc::clone(id), id: Arc::clone(id) })
}

/// Texts, each kept once.
#[derive(Default)]
struct Texts(HashSet<Arc<str>>);

impl Texts {
    /// `None` for what is empty as well: nothing has an empty name.
    fn of(&mut self, text: Option<&Text<'_>>) -> Option<Arc<str>> {
        let text = text.map(|text| &*text.0).filter(|text| !text.is_empty())?;
        Some(self.shared(text))
    }

    fn all(&mut self, texts: Option<&Vec<Text<'_>>>) -> Box<[Arc<str>]> {
        texts.into_iter().flatten().map(|text| self.shared(&text.0)).collect()
    }

    fn shared(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let shared: Arc<str> = text.into();
        self.0.insert(Arc::clone(&shared));
        shared
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::Gathered;
    use crate::ingest::hass::protocol::Registry;
    use crate::model::registries::{Registered, Registries};

    /// The registries of these lists; what is `null` never came.
    fn assemble(lists: &serde_json::Value) -> Registries {
        let mut gathered = Gathered::default();
        for (list, registry) in lists.as_array().unwrap().iter().zip(Registry::ALL) {
            if !list.is_null() {
                assert_eq!(gathered.take(registry, &list.to_string()), 0);
            }
        }
        gathered.assemble()
    }

    /// Area, floor, device, labels, platform and category by name, with `-` for what is not there.
    fn words(registered: &Registered) -> String {
        let name =
            |named: &Option<Arc<super::Named>>| named.as_ref().map_or("-".into(), |named| named.name.to_string());
        let text = |text: &Option<Arc<str>>| text.as_deref().unwrap_or("-").to_owned();
        let labels: Vec<_> = registered.labels.iter().map(|label| &*label.name).collect();
        let Registered { area, floor, device, platform, category, .. } = registered;
        let words = [name(area), name(floor), name(device), labels.join("+"), text(platform), text(category)];
        words.join("|")
    }

    fn check(registries: &Registries, entity: &str, expected: &str) {
        assert_eq!(words(&registries.entities[entity]), expected, "{entity}");
    }

    #[test]
    fn an_entity_is_where_it_says_or_where_its_device_is_or_where_that_is_a_part_of() {
        let registries = assemble(&json!([
            [
                {"entity_id": "a.own", "area_id": "kitchen", "device_id": "lamp", "platform": "hue", "labels": ["z", "l"]},
                {"entity_id": "a.device", "area_id": null, "device_id": "lamp", "entity_category": "diagnostic"},
                {"entity_id": "a.part", "device_id": "part"},
                {"entity_id": "a.via", "device_id": "via"},
                {"entity_id": "a.circle", "device_id": "circle"},
                {"entity_id": "a.gone", "device_id": "gone", "area_id": "gone", "labels": ["gone"]},
                {"entity_id": "a.plain"},
                {"entity_id": "a.disabled", "disabled_by": "user"},
            ],
            [
                {"id": "lamp", "name": "Lamp 7", "name_by_user": "Reading lamp", "area_id": "bath", "labels": ["l"]},
                {"id": "part", "name": "Part", "name_by_user": "", "parent_device_id": "inner"},
                {"id": "inner", "name": null, "parent_device_id": "lamp"},
                {"id": "via", "name": "Via", "via_device_id": "lamp"},
                {"id": "circle", "name": "Circle", "parent_device_id": "circle"},
            ],
            [
                {"area_id": "kitchen", "name": "Kitchen", "floor_id": "ground", "labels": []},
                {"area_id": "bath", "name": "Bath", "floor_id": null, "labels": ["wet"]},
            ],
            [{"floor_id": "ground", "name": "Ground floor", "level": 0}],
            [{"label_id": "l", "name": "Light"}, {"label_id": "wet", "name": "Always wet"}, {"label_id": "z", "name": "Äpfel"}],
        ]));
        check(&registries, "a.own", "Kitchen|Ground floor|Reading lamp|Light+Äpfel|hue|-");
        check(&registries, "a.device", "Bath|-|Reading lamp|Always wet+Light|-|diagnostic");
        check(&registries, "a.part", "Bath|-|Part|Always wet|-|-");
        check(&registries, "a.via", "-|-|Via||-|-");
        check(&registries, "a.circle", "-|-|Circle||-|-");
        check(&registries, "a.gone", "gone|-|-|gone|-|-");
        check(&registries, "a.plain", "-|-|-||-|-");
        assert!(!registries.entities.contains_key("a.disabled") && registries.entities.len() == 7);
    }

    #[test]
    fn an_older_home_assistant_has_no_floors_and_no_labels() {
        let registries = assemble(&json!([
            [{"entity_id": "a.b", "area_id": "kitchen"}], [], [{"area_id": "kitchen", "name": "Kitchen"}], null, null
        ]));
        check(&registries, "a.b", "Kitchen|-|-||-|-");
    }

    #[test]
    fn a_bad_row_costs_that_row_and_a_list_that_comes_again_takes_the_place_of_the_one_before() {
        let mut gathered = Gathered::default();
        let list = r#"[{"entity_id":"a.b"},{"entity_id":"ab"},{"entity_id":7},{"platform":"x"},null]"#;
        assert_eq!(gathered.take(Registry::Entities, list), 4);
        assert_eq!(gathered.take(Registry::Devices, r#"[{"id":"d","name":"D"},{"name":"No id"},{"id":""}]"#), 2);
        assert_eq!(gathered.take(Registry::Areas, r#"[{"area_id":"k"},{"name":"K"}]"#), 1);
        assert_eq!(gathered.take(Registry::Entities, r#"[{"entity_id":"a.c","device_id":"d","area_id":"k"}]"#), 0);
        let registries = gathered.assemble();
        assert_eq!(registries.entities.len(), 1);
        check(&registries, "a.c", "k|-|D||-|-");
    }

    #[test]
    fn what_is_the_same_is_held_once() {
        let rows: Vec<_> = (0..100)
            .map(|number| {
                json!({"entity_id": format!("a.e{number}"), "area_id": "k", "platform": "hue", "labels": ["l"], "device_id": "d"})
            })
            .collect();
        let lists = json!([rows, [{"id": "d", "name": "D"}], [{"area_id": "k", "name": "K"}], [], [{"label_id": "l", "name": "L"}]]);
        let registries = assemble(&lists);
        let (first, last) = (&registries.entities["a.e0"], &registries.entities["a.e99"]);
        assert!(Arc::ptr_eq(first.area.as_ref().unwrap(), last.area.as_ref().unwrap()));
        assert!(Arc::ptr_eq(first.device.as_ref().unwrap(), last.device.as_ref().unwrap()));
        assert!(Arc::ptr_eq(&first.labels, &last.labels));
        assert!(Arc::ptr_eq(first.platform.as_ref().unwrap(), last.platform.as_ref().unwrap()));
    }
}
