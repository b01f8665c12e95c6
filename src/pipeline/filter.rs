//! Which entities are written: Home Assistant's own include and exclude lists.
//!
//! The precedence is that of its `entityfilter` helper, so that lists copied from a configuration keep their meaning. What
//! the registries say of an entity stands between its id and its domain: entity, glob, registries, domain.

use std::collections::HashSet;

use super::glob::Glob;
use super::selection::RegistryList;
use crate::config::settings;
use crate::model::entity::EntityId;
use crate::model::registries::Registered;

#[derive(Debug, Clone)]
pub struct Filter {
    include: Lists,
    exclude: Lists,
}

/// What the filter says about an entity, and which rule said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    pub because: &'static str,
}

#[derive(Debug, Clone)]
struct Lists {
    domains: HashSet<String>,
    entities: HashSet<String>,
    globs: Vec<Glob>,
    registry: settings::RegistryNames,
}

impl Filter {
    #[must_use]
    pub fn new(settings: &settings::Filter) -> Self {
        Self { include: Lists::new(&settings.include), exclude: Lists::new(&settings.exclude) }
    }

    /// An entity that no registry knows.
    #[must_use]
    pub fn judge(&self, entity: &EntityId) -> Verdict {
        self.judge_with(entity, None)
    }

    #[must_use]
    pub fn judge_with(&self, entity: &EntityId, registered: Option<&Registered>) -> Verdict {
        let (include, exclude) = (&self.include, &self.exclude);
        if self.depends_on_registries() {
            return self.judge_by_all(entity, registered);
        }
        match (include.is_empty(), exclude.is_empty()) {
            (true, true) => allow("no list is set"),
            (false, true) if include.names(entity) => allow("listed in include.entities"),
            (false, true) if include.covers_domain(entity) => allow("its domain is in include.domains"),
            (false, true) if include.matches(entity) => allow("matches include.entity_globs"),
            (false, true) => deny("in no include list"),
            (true, false) if exclude.names(entity) => deny("listed in exclude.entities"),
            (true, false) if exclude.covers_domain(entity) => deny("its domain is in exclude.domains"),
            (true, false) if exclude.matches(entity) => deny("matches exclude.entity_globs"),
            (true, false) => allow("in no exclude list"),
            (false, false) => self.judge_by_both(entity),
        }
    }

    /// Whether it matters what the registries say.
    #[must_use]
    pub fn depends_on_registries(&self) -> bool {
        !self.include.registry.is_empty() || !self.exclude.registry.is_empty()
    }

    /// As with lists that Home Assistant knows, and with another one before the domain.
    fn judge_by_all(&self, entity: &EntityId, registered: Option<&Registered>) -> Verdict {
        let (include, exclude) = (&self.include, &self.exclude);
        if include.names(entity) {
            return allow("listed in include.entities");
        }
        if exclude.names(entity) {
            return deny("listed in exclude.entities");
        }
        if include.matches(entity) {
            return allow("matches include.entity_globs");
        }
        if exclude.matches(entity) {
            return deny("matches exclude.entity_globs");
        }
        if let Some(list) = exclude.registry_list(registered) {
            return deny(list.excluded());
        }
        if let Some(list) = include.registry_list(registered) {
            return allow(list.included());
        }
        if include.has_patterns() {
            if include.covers_domain(entity) {
                return allow("its domain is in include.domains");
            }
            return deny("in no include list");
        }
        if exclude.covers_domain(entity) {
            return deny("its domain is in exclude.domains");
        }
        allow("in no exclude list")
    }

    fn judge_by_both(&self, entity: &EntityId) -> Verdict {
        let (include, exclude) = (&self.include, &self.exclude);
        // Home Assistant 2025.4 lets an entity that is named in both lists out if `include` has nothing but entities;
        // newer ones let it in, as in all the other cases. A name in `include` is the most explicit wish there is.
        if include.names(entity) {
            return allow("listed in include.entities");
        }
        if exclude.names(entity) {
            return deny("listed in exclude.entities");
        }
        if include.has_patterns() {
            // `exclude.domains` has no say here: what no list includes is out anyway.
            if include.matches(entity) {
                return allow("matches include.entity_globs");
            }
            if exclude.matches(entity) {
                return deny("matches exclude.entity_globs");
            }
            if include.covers_domain(entity) {
                return allow("its domain is in include.domains");
            }
            return deny("in no include list");
        }
        if exclude.has_patterns() {
            if exclude.matches(entity) {
                return deny("matches exclude.entity_globs");
            }
            if exclude.covers_domain(entity) {
                return deny("its domain is in exclude.domains");
            }
            return allow("in no exclude list");
        }
        deny("in no include list")
    }
}

impl Lists {
    fn new(set: &settings::EntitySet) -> Self {
        Self {
            domains: set.domains.iter().cloned().collect(),
            // Home Assistant reads entity ids in any case, but neither domains nor patterns.
            entities: set.entities.iter().map(|entity| entity.to_lowercase()).collect(),
            globs: set.entity_globs.iter().map(|glob| Glob::new(glob)).collect(),
            registry: set.registry.clone(),
        }
    }

    fn is_empty(&self) -> bool {
        self.entities.is_empty() && !self.has_patterns()
    }

    /// Whether there is anything that can match more than one entity.
    fn has_patterns(&self) -> bool {
        !self.domains.is_empty() || !self.globs.is_empty() || !self.registry.is_empty()
    }

    fn names(&self, entity: &EntityId) -> bool {
        self.entities.contains(entity.as_str())
    }

    fn covers_domain(&self, entity: &EntityId) -> bool {
        self.domains.contains(entity.domain())
    }

    fn matches(&self, entity: &EntityId) -> bool {
        self.globs.iter().any(|glob| glob.matches(entity.as_str()))
    }

    /// The list that names something of the entity.
    fn registry_list(&self, registered: Option<&Registered>) -> Option<RegistryList> {
        let registered = registered?;
        let names_it = |list: &RegistryList| list.of(&self.registry).iter().any(|text| list.names(text, registered));
        RegistryList::ALL.into_iter().find(names_it)
    }
}

impl RegistryList {
    const fn included(self) -> &'static str {
        match self {
            Self::Areas => "its area is in include.areas",
            Self::Floors => "its floor is in include.floors",
            Self::Devices => "its device is in include.devices",
            Self::Labels => "one of its labels is in include.labels",
            Self::Integrations => "its integration is in include.integrations",
        }
    }

    const fn excluded(self) -> &'static str {
        match self {
            Self::Areas => "its area is in exclude.areas",
            Self::Floors => "its floor is in exclude.floors",
            Self::Devices => "its device is in exclude.devices",
            Self::Labels => "one of its labels is in exclude.labels",
            Self::Integrations => "its integration is in exclude.integrations",
        }
    }
}

const fn allow(because: &'static str) -> Verdict {
    Verdict { allowed: true, because }
}

const fn deny(because: &'static str) -> Verdict {
    Verdict { allowed: false, because }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Filter;
    use crate::config::settings::{self, EntitySet};
    use crate::model::entity::EntityId;
    use crate::model::registries::{Named, Registered};

    /// Reads `light`, `light.a` and `light.*` as a domain, an entity and a glob; `@hall` as an area and `#loud` as a label.
    fn lists(text: &str) -> EntitySet {
        let mut set = EntitySet::default();
        for word in text.split_whitespace().map(String::from) {
            if let Some(area) = word.strip_prefix('@') {
                set.registry.areas.push(area.into());
            } else if let Some(label) = word.strip_prefix('#') {
                set.registry.labels.push(label.into());
            } else if word.contains(['*', '?', '[']) {
                set.entity_globs.push(word);
            } else if word.contains('.') {
                set.entities.push(word);
            } else {
                set.domains.push(word);
            }
        }
        set
    }

    fn check(include: &str, exclude: &str, allowed: &str, denied: &str) {
        let filter = Filter::new(&settings::Filter { include: lists(include), exclude: lists(exclude) });
        for (ids, expected) in [(allowed, true), (denied, false)] {
            for id in ids.split_whitespace() {
                let verdict = filter.judge(&EntityId::parse(id).unwrap());
                assert_eq!(verdict.allowed, expected, "{include:?} without {exclude:?}, {id}: {}", verdict.because);
            }
        }
    }

    // Each row was put to the helper of Home Assistant 2025.4.4, which agreed with all but the one named below.
    #[test]
    fn lists_mean_what_they_mean_to_home_assistant() {
        // Case 1: nothing is set.
        check("", "", "light.a sensor.b", "");
        // Case 2: only include.
        check("light sensor.b *_x", "", "light.a sensor.b fan.a_x", "sensor.a fan.x");
        // Case 3: only exclude.
        check("", "light sensor.b *_x", "sensor.a fan.x", "light.a sensor.b fan.a_x");
        // Case 4: include has domains or globs.
        check("light", "light.a", "light.b", "light.a sensor.a");
        check("light light.a", "light.a", "light.a", "");
        check("light light.a_x", "*_x", "light.a light.a_x", "light.b_x sensor.a");
        check("light *_x", "*_x", "light.a_x sensor.a_x", "sensor.a");
        check("light *_x", "light sensor", "light.a sensor.a_x", "sensor.a");
        check("light", "sensor", "light.a", "sensor.a fan.a");
        check("*_x", "light.a_x light", "light.b_x", "light.a_x light.a");
        // Case 5: include has only entities, exclude has domains or globs.
        check("light.a", "light", "light.a sensor.a", "light.b");
        check("light.a_x", "*_x sensor.b", "light.a_x light.b", "light.b_x sensor.b");
        // Case 6: both have only entities.
        check("light.a light.b", "light.c light.b", "light.a light.b", "light.c light.d");
    }

    #[test]
    fn an_entity_in_both_lists_is_in() {
        // Home Assistant 2025.4.4 says no.
        check("light.a", "light.a sensor", "light.a", "sensor.a");
    }

    #[test]
    fn entities_are_read_in_any_case_but_not_domains_and_globs() {
        check("Light.A", "", "light.a", "");
        check("Light *.A", "", "", "light.a");
    }

    #[test]
    fn the_rule_that_decided_has_a_name() {
        let filter = Filter::new(&settings::Filter { include: lists("light"), exclude: lists("*_x") });
        assert_eq!(filter.judge(&EntityId::parse("light.a_x").unwrap()).because, "matches exclude.entity_globs");
        assert_eq!(filter.judge(&EntityId::parse("light.a").unwrap()).because, "its domain is in include.domains");
    }

    /// `light.a@hall#loud` is in the area `hall` and has the label `loud`.
    fn check_placed(include: &str, exclude: &str, allowed: &str, denied: &str) {
        let filter = Filter::new(&settings::Filter { include: lists(include), exclude: lists(exclude) });
        let named = |text: &str| Arc::new(Named { name: text.into(), id: text.into() });
        for (entities, expected) in [(allowed, true), (denied, false)] {
            for entity in entities.split_whitespace() {
                let (rest, label) = entity.split_once('#').unwrap_or((entity, ""));
                let (id, area) = rest.split_once('@').unwrap_or((rest, ""));
                let labels = (!label.is_empty()).then(|| named(label)).into_iter().collect();
                let area = (!area.is_empty()).then(|| named(area));
                let registered = Registered { area, labels, ..Registered::default() };
                let verdict = filter.judge_with(&EntityId::parse(id).unwrap(), Some(&registered));
                assert_eq!(verdict.allowed, expected, "{include:?} without {exclude:?}, {entity}: {}", verdict.because);
            }
        }
    }

    #[test]
    fn what_the_registries_say_stands_between_the_id_and_the_domain() {
        // Only include.
        check_placed("@hall", "", "light.a@hall", "light.a light.a@cellar");
        check_placed("@hall sensor fan.b", "", "light.a@hall sensor.a fan.b", "light.a fan.a");
        // Only exclude.
        check_placed("", "@hall #loud", "light.a light.a@cellar", "light.a@hall light.a@cellar#loud");
        check_placed("", "@hall sensor", "light.a", "light.a@hall sensor.a");
        // Both: out counts before in.
        check_placed("@hall", "#loud", "light.a@hall", "light.a@hall#loud light.a");
        // More than a domain.
        check_placed("sensor", "@hall", "sensor.a", "sensor.a@hall light.a");
        check_placed("@hall", "sensor", "sensor.a@hall", "sensor.a light.a");
        // Less than an id and a glob.
        check_placed("light.a *_x", "@hall", "light.a@hall light.b_x@hall", "light.b@hall light.b");
        check_placed("@hall", "light.a *_x", "light.b@hall", "light.a@hall light.b_x@hall");
        // Nothing but names is included: the others are in unless they are out.
        check_placed("light.a", "@hall sensor", "light.a@hall light.b", "light.b@hall sensor.a");
    }

    #[test]
    fn an_entity_that_no_registry_knows_is_in_no_area() {
        let filter = Filter::new(&settings::Filter { include: lists("@hall"), exclude: lists("") });
        assert_eq!(filter.judge(&EntityId::parse("light.a").unwrap()).because, "in no include list");
    }

    #[test]
    fn the_list_of_the_registries_that_decided_has_a_name() {
        let filter = Filter::new(&settings::Filter { include: lists("@hall"), exclude: lists("#loud") });
        let named = |text: &str| Arc::new(Named { name: text.into(), id: text.into() });
        let mut registered = Registered { area: Some(named("hall")), ..Registered::default() };
        let entity = EntityId::parse("light.a").unwrap();
        assert_eq!(filter.judge_with(&entity, Some(&registered)).because, "its area is in include.areas");
        registered.labels = Arc::new([named("loud")]);
        assert_eq!(filter.judge_with(&entity, Some(&registered)).because, "one of its labels is in exclude.labels");
    }
}
