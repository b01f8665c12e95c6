//! Which entities are written. Home Assistant's ids are lower-case letters, digits and underscores; a list entry that can
//! never match is a slip, and is refused rather than obeyed in silence.

use super::super::faults::{Faults, shown};
use super::super::options;
use super::super::settings::{EntitySet, Filter};
use super::no_empty_item;
use crate::model::entity::EntityId;

pub(super) fn check(typed: options::Filter, faults: &mut Faults) -> Filter {
    Filter {
        include: entity_set("filter.include", typed.include_domains, typed.include_entities, faults),
        exclude: entity_set("filter.exclude", typed.exclude_domains, typed.exclude_entities, faults),
    }
}

/// `lists` is the beginning of both options' names.
fn entity_set(lists: &str, domains: Vec<String>, entities: Vec<String>, faults: &mut Faults) -> EntitySet {
    let domains_key = format!("{lists}_domains");
    let entities_key = format!("{lists}_entities");
    no_empty_item(&domains_key, &domains, faults);
    no_empty_item(&entities_key, &entities, faults);

    let mut set = EntitySet::default();
    for domain in domains.into_iter().filter(|domain| !domain.trim().is_empty()) {
        match wrong_domain(&domain, &entities_key) {
            None => set.domains.push(domain),
            Some(problem) => faults.also_at(&domains_key, format_args!("`{}` {problem}", shown(&domain))),
        }
    }
    for entity in entities.into_iter().filter(|entity| !entity.trim().is_empty()) {
        match wrong_entity(&entity) {
            None if is_glob(&entity) => set.entity_globs.push(entity),
            None => set.entities.push(entity),
            Some(problem) => faults.also_at(&entities_key, format_args!("`{}` {problem}", shown(&entity))),
        }
    }
    set
}

fn wrong_domain(domain: &str, entities_key: &str) -> Option<String> {
    if domain.contains('.') || is_glob(domain) {
        return Some(format!("is not a domain like sensor: put it in {entities_key}"));
    }
    wrong_letters(domain, "")
}

fn wrong_entity(entity: &str) -> Option<String> {
    if is_glob(entity) {
        return wrong_letters(entity, ".*?[]!-");
    }
    if EntityId::parse(entity).is_err() {
        return Some("is not an entity id like sensor.kitchen_temperature, nor a pattern like sensor.*".to_owned());
    }
    wrong_letters(entity, ".")
}

pub(crate) fn wrong_letters(text: &str, also: &str) -> Option<String> {
    let fits = |letter: char| matches!(letter, 'a'..='z' | '0'..='9' | '_') || also.contains(letter);
    if text.chars().all(fits) {
        return None;
    }
    let lower = text.to_lowercase();
    Some(if lower.chars().all(fits) {
        format!("never matches, ids are lower-case: did you mean `{}`?", shown(&lower))
    } else {
        "never matches: ids are made of a-z, 0-9 and _".to_owned()
    })
}

pub(crate) fn is_glob(entity: &str) -> bool {
    entity.contains(['*', '?', '['])
}
