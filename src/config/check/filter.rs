//! Which entities are written. Home Assistant's ids are lower-case letters, digits and underscores; a list entry that can
//! never match is a slip, and is refused rather than obeyed in silence.

use super::super::faults::{Faults, shown};
use super::super::options;
use super::super::settings::{EntitySet, Filter, RegistryNames};
use super::no_empty_item;
use crate::model::entity::EntityId;

pub(super) fn check(typed: options::Filter, faults: &mut Faults) -> Filter {
    let include = RegistryNames {
        areas: names("filter.include_areas", typed.include_areas, faults),
        floors: names("filter.include_floors", typed.include_floors, faults),
        devices: names("filter.include_devices", typed.include_devices, faults),
        labels: names("filter.include_labels", typed.include_labels, faults),
        integrations: integrations("filter.include_integrations", typed.include_integrations, faults),
    };
    let exclude = RegistryNames {
        areas: names("filter.exclude_areas", typed.exclude_areas, faults),
        floors: names("filter.exclude_floors", typed.exclude_floors, faults),
        devices: names("filter.exclude_devices", typed.exclude_devices, faults),
        labels: names("filter.exclude_labels", typed.exclude_labels, faults),
        integrations: integrations("filter.exclude_integrations", typed.exclude_integrations, faults),
    };
    Filter {
        include: entity_set("filter.include", typed.include_domains, typed.include_entities, include, faults),
        exclude: entity_set("filter.exclude", typed.exclude_domains, typed.exclude_entities, exclude, faults),
    }
}

/// `lists` is the beginning of both options' names.
fn entity_set(
    lists: &str,
    domains: Vec<String>,
    entities: Vec<String>,
    registry: RegistryNames,
    faults: &mut Faults,
) -> EntitySet {
    let domains_key = format!("{lists}_domains");
    let entities_key = format!("{lists}_entities");
    no_empty_item(&domains_key, &domains, faults);
    no_empty_item(&entities_key, &entities, faults);

    let mut set = EntitySet { registry, ..EntitySet::default() };
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

/// What people call their areas and devices may be any text. Home Assistant keeps no spaces around it.
fn names(key: &str, typed: Vec<String>, faults: &mut Faults) -> Vec<String> {
    no_empty_item(key, &typed, faults);
    typed.into_iter().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

/// The name of an integration is made of the same letters as an entity id.
fn integrations(key: &str, typed: Vec<String>, faults: &mut Faults) -> Vec<String> {
    let integrations = names(key, typed, faults);
    for integration in &integrations {
        if let Some(problem) = wrong_letters(integration, "") {
            faults.also_at(key, format_args!("`{}` {problem}", shown(integration)));
        }
    }
    integrations
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
