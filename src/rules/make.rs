//! From what was typed to what is true: the file and the options become [`Rules`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::faults::{Faults, Place, Warning};
use super::file::{self, File};
use super::read::{Many, Pairs};
use super::topics;
use super::values::{Domain, Entity, EntityGlob, EventType, Name, Span};
use super::{Actions, FieldActions, Rule, Rules, Selection};
use crate::config::faults::shown;
use crate::config::settings::{EntitySet, Filter, RegistryNames};
use crate::model::units;

/// More decimal places than a number has.
const MOST_PLACES: i64 = 15;

/// What is written more often than Home Assistant's sensors change fills a database for nothing.
const SHORTEST_HEARTBEAT: Duration = Duration::from_secs(1);

/// `options`: what the options alone say.
pub(super) fn make(file: File, options: &Rules, faults: &mut Faults<'_>, warnings: &mut Vec<Warning>) -> Rules {
    let top = Place::default();
    let mut made = Rules { rules: Vec::new(), topics: Vec::new(), ignored_topics: Vec::new(), ..options.clone() };
    if let Some(block) = file.influxdb {
        let said = block.apply(&mut made.schema, faults, warnings);
        made.rules = said.rules;
        if let Some(filter) = said.filter {
            if file.filter.is_some() {
                faults.at_key(&top.key("filter"), "the block `influxdb` has include or exclude too: keep one of them");
            }
            replace_filter(filter, "influxdb.include and influxdb.exclude count", &mut made, warnings);
        }
    }
    if let Some(typed) = file.filter {
        let filter = Filter { include: entity_set(typed.include), exclude: entity_set(typed.exclude) };
        replace_filter(filter, "filter counts", &mut made, warnings);
    }
    if let Some(Many(events)) = file.events {
        made.events = events.into_iter().map(|EventType(event)| event).collect();
    }
    let places = top.key("rules");
    let typed = file.rules.unwrap_or_default();
    report_namesakes(typed.iter().map(|rule| rule.as_ref()?.name.as_ref()), &places, faults);
    for (number, rule) in typed.into_iter().enumerate() {
        made.rules.extend(rule.into_iter().flat_map(|rule| of_rule(rule, &places.item(number), faults)));
    }
    // Of two that say something about the same the later one counts: that is the more specific one, and else the one that
    // stands later in the file.
    made.rules.sort_by_key(|rule| rank(&rule.selection));
    if let Some(mqtt) = file.mqtt {
        topics::make(mqtt, &top.key("mqtt"), &mut made, faults);
    }
    made
}

fn replace_filter(filter: Filter, what_counts: &str, made: &mut Rules, warnings: &mut Vec<Warning>) {
    if made.filter != Filter::default() && made.filter != filter {
        warnings.push(Warning(format!("{what_counts}, and not the option filter: empty one of them")));
    }
    made.filter = filter;
}

/// How specific a selection is: that of its most specific list.
fn rank(selection: &Selection) -> u8 {
    if !selection.entities.is_empty() {
        4
    } else if !selection.entity_globs.is_empty() {
        3
    } else if !selection.registry.is_empty() || !selection.device_classes.is_empty() {
        2
    } else {
        u8::from(!selection.domains.is_empty())
    }
}

/// Names are for finding things again.
pub(super) fn report_namesakes<'a>(
    names: impl Iterator<Item = Option<&'a Name>>,
    list: &Place,
    faults: &mut Faults<'_>,
) {
    let mut known: HashMap<&str, usize> = HashMap::new();
    for (number, name) in names.enumerate() {
        let Some(Name(name)) = name else { continue };
        match known.get(name.as_str()) {
            Some(first) => {
                let problem = format!("{} has this name too: rename one of them", list.item(*first));
                faults.at(&list.item(number).key("name"), problem);
            }
            None => {
                known.insert(name, number);
            }
        }
    }
}

fn texts(typed: Option<Many<Name>>) -> Vec<String> {
    typed.map(|Many(names)| names.into_iter().map(|Name(name)| name).collect()).unwrap_or_default()
}

fn domains(typed: Option<Many<Domain>>) -> Vec<String> {
    typed.map(|Many(domains)| domains.into_iter().map(|Domain(domain)| domain).collect()).unwrap_or_default()
}

/// Ids, and patterns, from whichever list.
fn ids(entities: Option<Many<Entity>>, globs: Option<Many<EntityGlob>>) -> (Vec<String>, Vec<String>) {
    let typed = entities.map(|Many(entities)| entities).unwrap_or_default();
    let (patterns, ids): (Vec<Entity>, Vec<Entity>) = typed.into_iter().partition(Entity::is_glob);
    let globs = globs.map(|Many(globs)| globs).unwrap_or_default();
    let patterns = globs.into_iter().map(|EntityGlob(glob)| glob).chain(patterns.into_iter().map(|Entity(glob)| glob));
    (ids.into_iter().map(|Entity(id)| id).collect(), patterns.collect())
}

fn entity_set(typed: Option<file::Lists>) -> EntitySet {
    let typed = typed.unwrap_or_default();
    let (entities, entity_globs) = ids(typed.entities, typed.entity_globs);
    EntitySet {
        domains: domains(typed.domains),
        entities,
        entity_globs,
        registry: registry([typed.areas, typed.floors, typed.devices, typed.labels, typed.integrations]),
    }
}

fn registry(typed: [Option<Many<Name>>; 5]) -> RegistryNames {
    let [areas, floors, devices, labels, integrations] = typed.map(texts);
    RegistryNames { areas, floors, devices, labels, integrations }
}

/// One rule, or two: an id is meant if it is in either of two lists, and of these two one is more specific.
fn of_rule(typed: file::Rule, at: &Place, faults: &mut Faults<'_>) -> Vec<Rule> {
    let name: Arc<str> = match &typed.name {
        Some(Name(name)) => name.as_str().into(),
        None => at.to_string().into(),
    };
    let matching = at.key("match");
    if let Some(typed) = &typed.r#match {
        report_empty_lists(typed, &matching, faults);
    }
    let selections = selections(typed.r#match.unwrap_or_default());
    let actions = Actions {
        drop: typed.drop,
        override_measurement: typed.override_measurement.map(|Name(name)| name),
        rename_measurements: typed.rename_measurements.map(renames),
        ignore_attributes: typed.ignore_attributes.map(|names| texts(Some(names))),
        keep_attributes: typed.keep_attributes.map(|names| texts(Some(names))),
        tags_attributes: typed.tags_attributes.map(|names| texts(Some(names))),
        tags: typed.tags.map(renames),
        rename_fields: typed.rename_fields.map(renames),
        fields: typed.fields.map(|fields| field_actions(fields, &at.key("fields"), faults)),
        state_numbers: typed.state_numbers.map(|Pairs(numbers)| numbers),
        throttle: typed.throttle.map(|Span(time)| time),
        heartbeat: typed.heartbeat.map(|Span(time)| time),
        only_state_changes: typed.only_state_changes,
    };
    report_needless_hurry(&actions, at, faults);
    if actions == Actions::default() && !faults.has_any_in(at) {
        faults.at(at, "says nothing to do: give it an action such as `drop: true`, or remove it");
    }
    let rule = |selection| Rule { name: Arc::clone(&name), selection, actions: actions.clone() };
    selections.into_iter().map(rule).collect()
}

/// A heartbeat must find its turn, and is for values that stay.
fn report_needless_hurry(actions: &Actions, at: &Place, faults: &mut Faults<'_>) {
    if actions.heartbeat.is_some_and(|heartbeat| heartbeat > Duration::ZERO && heartbeat < SHORTEST_HEARTBEAT) {
        faults.at(&at.key("heartbeat"), "must be at least 1s, or 0 for none");
    }
    if let (Some(throttle), Some(heartbeat)) = (actions.throttle, actions.heartbeat)
        && heartbeat < throttle
        && heartbeat > Duration::ZERO
    {
        faults.at(&at.key("heartbeat"), "is shorter than throttle, which lets no value through in that time");
    }
}

fn renames(Pairs(pairs): Pairs<Name>) -> Vec<(String, String)> {
    pairs.into_iter().map(|(from, Name(to))| (from, to)).collect()
}

/// A list without items could mean nothing or everything, so it is not taken.
fn report_empty_lists(typed: &file::Match, at: &Place, faults: &mut Faults<'_>) {
    fn is_empty<T>(list: Option<&Many<T>>) -> bool {
        list.is_some_and(|Many(items)| items.is_empty())
    }
    let lists = [
        ("domains", is_empty(typed.domains.as_ref())),
        ("entity_globs", is_empty(typed.entity_globs.as_ref())),
        ("entities", is_empty(typed.entities.as_ref())),
        ("areas", is_empty(typed.areas.as_ref())),
        ("floors", is_empty(typed.floors.as_ref())),
        ("labels", is_empty(typed.labels.as_ref())),
        ("devices", is_empty(typed.devices.as_ref())),
        ("integrations", is_empty(typed.integrations.as_ref())),
        ("device_classes", is_empty(typed.device_classes.as_ref())),
    ];
    for (key, _) in lists.iter().filter(|(_, is_empty)| *is_empty) {
        faults.at(&at.key(key), "is an empty list: name something, or remove the line");
    }
}

fn selections(typed: file::Match) -> Vec<Selection> {
    let (entities, entity_globs) = ids(typed.entities, typed.entity_globs);
    let whole = Selection {
        domains: domains(typed.domains),
        entity_globs,
        entities,
        registry: registry([typed.areas, typed.floors, typed.devices, typed.labels, typed.integrations]),
        device_classes: texts(typed.device_classes),
    };
    if whole.entities.is_empty() || whole.entity_globs.is_empty() {
        return vec![whole];
    }
    let by_pattern = Selection { entities: Vec::new(), ..whole.clone() };
    vec![by_pattern, Selection { entity_globs: Vec::new(), ..whole }]
}

/// Units differ in upper and lower case: `mW` is not `MW`.
fn unknown_unit(unit: &str) -> String {
    let unit = unit.trim();
    let meant = units::known().filter(|known| known.to_lowercase() == unit.to_lowercase());
    let meant = meant.chain(units::known().filter(|known| known.strip_prefix('°') == Some(unit)));
    let meant: Vec<String> = meant.map(|known| format!("`{known}`")).collect();
    if meant.is_empty() {
        return format!("`{}` is no unit that numbers can be converted to: use scale and offset", shown(unit));
    }
    format!("`{}` is no unit: did you mean {}?", shown(unit), meant.join(" or "))
}

fn field_actions(
    Pairs(fields): Pairs<file::FieldRule>,
    at: &Place,
    faults: &mut Faults<'_>,
) -> Vec<(String, FieldActions)> {
    fields
        .into_iter()
        .map(|(name, typed)| {
            let at = at.key(&name);
            if typed.unit.is_some() && name != "value" {
                faults.at(&at.key("unit"), "only `value` has a unit: use scale and offset");
            } else if let Some(Name(unit)) = typed.unit.as_ref().filter(|Name(unit)| !units::is_known(unit)) {
                faults.at(&at.key("unit"), unknown_unit(unit));
            }
            if typed.scale == Some(0.0) {
                faults.at(&at.key("scale"), "must not be 0: every value would be the same");
            }
            if let (Some(min), Some(max)) = (typed.min, typed.max)
                && min > max
            {
                faults.at(&at.key("min"), format_args!("{min} is more than max, {max}"));
            }
            let round = typed.round.and_then(|places| {
                let round = u8::try_from(places).ok().filter(|places| i64::from(*places) <= MOST_PLACES);
                if round.is_none() {
                    faults.at(
                        &at.key("round"),
                        format_args!("must be from 0 to {MOST_PLACES} decimal places, not {places}"),
                    );
                }
                round
            });
            let actions = FieldActions {
                unit: typed.unit.map(|Name(unit)| unit),
                scale: typed.scale,
                offset: typed.offset,
                min: typed.min,
                max: typed.max,
                round,
                cast: typed.cast,
            };
            (name, actions)
        })
        .collect()
}
