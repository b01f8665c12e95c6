//! Which rules match an entity, and which of their words never matched one.

use super::glob::Glob;
use crate::config::settings::RegistryNames;
use crate::model::entity::EntityId;
use crate::model::registries::Registered;
use crate::rules::Selection;

/// An entity as rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub entity: &'a EntityId,
    pub registered: Option<&'a Registered>,
    pub device_class: Option<&'a str>,
}

/// A [`Selection`], ready to be asked.
#[derive(Debug)]
pub struct Selector {
    /// None of them is empty.
    kinds: Vec<Kind>,
}

/// One list: an entity is in it if any of its words matches.
#[derive(Debug)]
struct Kind {
    /// As the list is called in `rules.yaml`.
    list: &'static str,
    words: Vec<Word>,
}

#[derive(Debug)]
struct Word {
    text: String,
    means: Means,
    /// Whether it ever matched an entity.
    met: bool,
}

#[derive(Debug)]
enum Means {
    Domain,
    Glob(Glob),
    Entity,
    Registry(RegistryList),
    DeviceClass,
}

/// A list of [`RegistryNames`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryList {
    Areas,
    Floors,
    Devices,
    Labels,
    Integrations,
}

impl RegistryList {
    pub const ALL: [Self; 5] = [Self::Areas, Self::Floors, Self::Devices, Self::Labels, Self::Integrations];

    /// The option that holds it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Areas => "areas",
            Self::Floors => "floors",
            Self::Devices => "devices",
            Self::Labels => "labels",
            Self::Integrations => "integrations",
        }
    }

    #[must_use]
    pub const fn of(self, names: &RegistryNames) -> &Vec<String> {
        match self {
            Self::Areas => &names.areas,
            Self::Floors => &names.floors,
            Self::Devices => &names.devices,
            Self::Labels => &names.labels,
            Self::Integrations => &names.integrations,
        }
    }

    /// Whether this is said of the entity.
    #[must_use]
    pub fn names(self, text: &str, registered: &Registered) -> bool {
        let named = match self {
            Self::Areas => &registered.area,
            Self::Floors => &registered.floor,
            Self::Devices => &registered.device,
            Self::Labels => return registered.labels.iter().any(|label| label.is_called(text)),
            Self::Integrations => return registered.platform.as_deref() == Some(text),
        };
        named.as_ref().is_some_and(|named| named.is_called(text))
    }
}

impl Selector {
    #[must_use]
    pub fn new(selection: &Selection) -> Self {
        let mut kinds = vec![
            Kind::new("domains", &selection.domains, |_| Means::Domain),
            Kind::new("entity_globs", &selection.entity_globs, |text| Means::Glob(Glob::new(text))),
            Kind::new("entities", &selection.entities, |_| Means::Entity),
            Kind::new("device_classes", &selection.device_classes, |_| Means::DeviceClass),
        ];
        for list in RegistryList::ALL {
            kinds.push(Kind::new(list.label(), list.of(&selection.registry), |_| Means::Registry(list)));
        }
        kinds.retain(|kind| !kind.words.is_empty());
        Self { kinds }
    }

    #[must_use]
    pub fn matches(&self, subject: Subject<'_>) -> bool {
        self.kinds.iter().all(|kind| kind.words.iter().any(|word| word.matches(subject)))
    }

    /// Notes which words match this entity.
    pub fn meet(&mut self, subject: Subject<'_>) {
        for word in self.kinds.iter_mut().flat_map(|kind| &mut kind.words) {
            word.met = word.met || word.matches(subject);
        }
    }

    /// The words that matched no entity that was met, each with its list.
    pub fn unmet(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.kinds
            .iter()
            .flat_map(|kind| kind.words.iter().filter(|word| !word.met).map(|word| (kind.list, word.text.as_str())))
    }

    /// Whether an entity may begin or cease to match because its attribute `device_class` changed.
    #[must_use]
    pub fn depends_on_class(&self) -> bool {
        self.depends_on(|means| matches!(means, Means::DeviceClass))
    }

    #[must_use]
    pub fn depends_on_registries(&self) -> bool {
        self.depends_on(|means| matches!(means, Means::Registry(_)))
    }

    fn depends_on(&self, is_meant: impl Fn(&Means) -> bool) -> bool {
        self.kinds.iter().any(|kind| kind.words.iter().any(|word| is_meant(&word.means)))
    }
}

impl Kind {
    fn new(list: &'static str, words: &[String], means: impl Fn(&str) -> Means) -> Self {
        let word = |text: &String| match means(text) {
            // Home Assistant reads entity ids in any case.
            Means::Entity => Word { text: text.to_lowercase(), means: Means::Entity, met: false },
            means => Word { text: text.clone(), means, met: false },
        };
        Self { list, words: words.iter().map(word).collect() }
    }
}

impl Word {
    fn matches(&self, subject: Subject<'_>) -> bool {
        match &self.means {
            Means::Domain => subject.entity.domain() == self.text,
            Means::Glob(glob) => glob.matches(subject.entity.as_str()),
            Means::Entity => subject.entity.as_str() == self.text,
            Means::DeviceClass => subject.device_class == Some(self.text.as_str()),
            Means::Registry(list) => subject.registered.is_some_and(|registered| list.names(&self.text, registered)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Selector, Subject};
    use crate::config::settings::RegistryNames;
    use crate::model::entity::EntityId;
    use crate::model::registries::{Named, Registered};
    use crate::rules::Selection;

    fn named(name: &str, id: &str) -> Arc<Named> {
        Arc::new(Named { name: name.into(), id: id.into() })
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    fn lamp() -> Registered {
        Registered {
            id: None,
            area: Some(named("Kitchen", "kuche")),
            floor: Some(named("Ground", "floor_0")),
            device: Some(named("Bridge", "0123")),
            labels: Arc::new([named("Cheap", "cheap"), named("Loud", "noisy")]),
            platform: Some("hue".into()),
            category: None,
        }
    }

    fn check(selection: &Selection, expected: bool) {
        let entity = EntityId::parse("light.kitchen").unwrap();
        let registered = lamp();
        let subject = Subject { entity: &entity, registered: Some(&registered), device_class: Some("outlet") };
        assert_eq!(Selector::new(selection).matches(subject), expected, "{selection:?}");
    }

    fn registry(set: impl FnOnce(&mut RegistryNames)) -> Selection {
        let mut selection = Selection::default();
        set(&mut selection.registry);
        selection
    }

    #[test]
    fn any_word_of_each_list_has_to_match() {
        check(&Selection::default(), true);
        for (text, expected) in [("light", true), ("fan light", true), ("fan", false), ("Light", false)] {
            check(&Selection { domains: words(text), ..Selection::default() }, expected);
        }
        for (text, expected) in [("*.kitchen", true), ("fan.* light.k*", true), ("kitchen", false)] {
            check(&Selection { entity_globs: words(text), ..Selection::default() }, expected);
        }
        for (text, expected) in [("Light.Kitchen", true), ("light.kitchen_2", false)] {
            check(&Selection { entities: words(text), ..Selection::default() }, expected);
        }
        for (text, expected) in [("outlet", true), ("power outlet", true), ("power", false)] {
            check(&Selection { device_classes: words(text), ..Selection::default() }, expected);
        }
        let both = |domains, globs| Selection {
            domains: words(domains),
            entity_globs: words(globs),
            device_classes: words("outlet"),
            ..Selection::default()
        };
        check(&both("light", "*kitchen"), true);
        check(&both("light", "*hall"), false);
        check(&both("fan", "*kitchen"), false);
    }

    #[test]
    fn the_registries_are_asked_by_name_and_by_id() {
        for (text, expected) in [("KITCHEN", true), ("kuche", true), ("hall", false)] {
            check(&registry(|names| names.areas = words(text)), expected);
        }
        check(&registry(|names| names.floors = words("ground")), true);
        check(&registry(|names| names.floors = words("kitchen")), false);
        check(&registry(|names| names.devices = words("0123")), true);
        check(&registry(|names| names.labels = words("x noisy")), true);
        check(&registry(|names| names.labels = words("x")), false);
        check(&registry(|names| names.integrations = words("hue")), true);
        check(&registry(|names| (names.areas, names.labels) = (words("kitchen"), words("x"))), false);
    }

    #[test]
    fn an_entity_that_is_in_no_registry_matches_no_word_about_them() {
        let entity = EntityId::parse("light.kitchen").unwrap();
        let subject = Subject { entity: &entity, registered: None, device_class: None };
        assert!(!Selector::new(&registry(|names| names.areas = words("kitchen"))).matches(subject));
    }

    #[test]
    fn a_word_that_matches_nothing_is_known_until_it_does() {
        let mut selector = Selector::new(&Selection {
            domains: words("light"),
            entity_globs: words("*.kitchen *.cellar"),
            ..registry(|names| names.areas = words("kitchen"))
        });
        let meet = |selector: &mut Selector, entity: &str, registered: Option<&Registered>| {
            selector.meet(Subject { entity: &EntityId::parse(entity).unwrap(), registered, device_class: None });
        };
        meet(&mut selector, "light.kitchen", None);
        let unmet: Vec<_> = selector.unmet().collect();
        assert_eq!(unmet, [("entity_globs", "*.cellar"), ("areas", "kitchen")]);
        meet(&mut selector, "fan.cellar", Some(&lamp()));
        meet(&mut selector, "fan.hall", None);
        assert_eq!(selector.unmet().count(), 0);
    }
}
