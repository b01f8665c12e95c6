//! Which entities are written: Home Assistant's own include and exclude lists.
//!
//! The precedence is that of its `entityfilter` helper, so that lists copied from a configuration keep their meaning.

use std::collections::HashSet;

use super::glob::Glob;
use crate::config::settings;
use crate::model::entity::EntityId;

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
}

impl Filter {
    #[must_use]
    pub fn new(settings: &settings::Filter) -> Self {
        Self { include: Lists::new(&settings.include), exclude: Lists::new(&settings.exclude) }
    }

    #[must_use]
    pub fn allows(&self, entity: &EntityId) -> bool {
        self.judge(entity).allowed
    }

    #[must_use]
    pub fn judge(&self, entity: &EntityId) -> Verdict {
        let (include, exclude) = (&self.include, &self.exclude);
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
        }
    }

    fn is_empty(&self) -> bool {
        self.entities.is_empty() && !self.has_patterns()
    }

    /// Whether there is anything that can match more than one entity.
    fn has_patterns(&self) -> bool {
        !self.domains.is_empty() || !self.globs.is_empty()
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
}

const fn allow(because: &'static str) -> Verdict {
    Verdict { allowed: true, because }
}

const fn deny(because: &'static str) -> Verdict {
    Verdict { allowed: false, because }
}

#[cfg(test)]
mod tests {
    use super::Filter;
    use crate::config::settings::{self, EntitySet};
    use crate::model::entity::EntityId;

    /// Reads `light`, `light.a` and `light.*` as a domain, an entity and a glob.
    fn lists(text: &str) -> EntitySet {
        let mut set = EntitySet::default();
        for word in text.split_whitespace().map(String::from) {
            if word.contains(['*', '?', '[']) {
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
}
