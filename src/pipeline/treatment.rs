//! What is done with an entity: all rules that match it and the options made one.
//!
//! Most homes have far more entities than ways to treat them, so entities for which the same rules match share one
//! [`Treatment`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::filter::{Filter, Verdict};
use super::selection::{Selector, Subject};
use super::transform::FieldRule;
use crate::config::settings;
use crate::model::entity::EntityId;
use crate::model::registries::Registries;
use crate::rules::{Rule, Rules};

/// Finds the treatment of each entity.
pub struct Treatments {
    filter: Filter,
    rules: Vec<(Selector, Rule)>,
    registries: Arc<Registries>,
    schema: settings::Schema,
    /// By the numbers of the rules that match.
    shared: HashMap<Vec<u32>, Arc<Treatment>>,
    /// That of an entity which no rule matches.
    plain: Arc<Treatment>,
    depends_on_class: bool,
    depends_on_registries: bool,
}

/// What rules and options say together. Lists without anything mean that nothing is to be done.
#[derive(Debug, Default)]
pub struct Treatment {
    pub drops: bool,
    pub override_measurement: Option<String>,
    pub rename_measurements: Vec<(String, String)>,
    pub ignore_attributes: Names,
    pub keep_attributes: Option<Names>,
    pub tags_attributes: Names,
    /// Those of rules alone.
    pub tags: Vec<(String, String)>,
    pub rename_fields: Vec<(String, String)>,
    pub fields: Vec<FieldRule>,
    pub state_numbers: Vec<(String, f64)>,
    pub throttle: Option<Duration>,
    pub heartbeat: Option<Duration>,
    pub only_state_changes: bool,
    /// The rule that has the last word.
    pub rule: Option<Arc<str>>,
    /// In the order of [`crate::rules::Actions`].
    pub decisions: Vec<Decision>,
}

/// A rule that did something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What it did: the key of `rules.yaml`.
    pub what: &'static str,
    /// The name of the rule.
    pub by: Arc<str>,
}

/// A few names, sorted: quicker to search than a hash table, and most often empty.
#[derive(Debug, Default)]
pub struct Names(Box<[String]>);

impl Treatments {
    #[must_use]
    pub fn new(rules: &Rules) -> Self {
        let selected: Vec<(Selector, Rule)> =
            rules.rules.iter().map(|rule| (Selector::new(&rule.selection), rule.clone())).collect();
        let filter = Filter::new(&rules.filter);
        Self {
            depends_on_class: selected.iter().any(|(selector, _)| selector.depends_on_class()),
            depends_on_registries: filter.depends_on_registries()
                || selected.iter().any(|(selector, _)| selector.depends_on_registries()),
            filter,
            rules: selected,
            registries: Arc::default(),
            schema: rules.schema.clone(),
            shared: HashMap::new(),
            plain: Arc::new(Treatment::of(&[], &rules.schema)),
        }
    }

    /// Returns whether an entity may be treated otherwise from now on.
    #[must_use]
    pub fn learn(&mut self, registries: Arc<Registries>) -> bool {
        let matters = self.depends_on_registries && self.registries != registries;
        self.registries = registries;
        matters
    }

    #[must_use]
    pub fn registries(&self) -> &Arc<Registries> {
        &self.registries
    }

    /// Whether the attribute `device_class` of an entity matters.
    #[must_use]
    pub fn depends_on_class(&self) -> bool {
        self.depends_on_class
    }

    #[must_use]
    pub fn judge(&self, entity: &EntityId) -> Verdict {
        self.filter.judge_with(entity, self.registries.get(entity))
    }

    /// The treatment of an entity; `None` if the filter leaves it out.
    pub fn find(&mut self, entity: &EntityId, device_class: Option<&str>) -> Option<Arc<Treatment>> {
        let registered = self.registries.get(entity);
        if !self.filter.judge_with(entity, registered).allowed {
            return None;
        }
        let subject = Subject { entity, registered, device_class };
        let mut matching = Vec::new();
        for (number, (selector, _)) in (0..).zip(&mut self.rules) {
            selector.meet(subject);
            if selector.matches(subject) {
                matching.push(number);
            }
        }
        if matching.is_empty() {
            return Some(Arc::clone(&self.plain));
        }
        let (rules, schema) = (&self.rules, &self.schema);
        let treatment = self.shared.entry(matching).or_insert_with_key(|matching| {
            let matching: Vec<&Rule> = matching.iter().map(|number| &rules[*number as usize].1).collect();
            Arc::new(Treatment::of(&matching, schema))
        });
        Some(Arc::clone(treatment))
    }

    /// The same, without a trace.
    #[must_use]
    pub fn preview(&self, entity: &EntityId, device_class: Option<&str>) -> Treatment {
        let subject = Subject { entity, registered: self.registries.get(entity), device_class };
        let matching = self.rules.iter().filter(|(selector, _)| selector.matches(subject));
        Treatment::of(&matching.map(|(_, rule)| rule).collect::<Vec<_>>(), &self.schema)
    }

    /// What rules name and no entity is, for people.
    pub fn unmet(&self) -> impl Iterator<Item = String> {
        self.rules.iter().flat_map(|(selector, rule)| {
            selector.unmet().map(|(list, text)| format!("{}: `{text}` in `{list}` matches no entity", rule.name))
        })
    }
}

impl Treatment {
    /// `rules` are those that match, the last one having the last word.
    #[must_use]
    pub fn of(rules: &[&Rule], schema: &settings::Schema) -> Self {
        let mut merged = Self {
            drops: last(rules, |rule| rule.actions.drop).unwrap_or(false),
            rename_measurements: by_key(rules, |rule| &rule.actions.rename_measurements),
            keep_attributes: last(rules, |rule| rule.actions.keep_attributes.clone()).map(Names::new),
            tags: by_key(rules, |rule| &rule.actions.tags),
            rename_fields: by_key(rules, |rule| &rule.actions.rename_fields),
            state_numbers: by_key(rules, |rule| &rule.actions.state_numbers),
            throttle: last(rules, |rule| rule.actions.throttle).filter(|time| !time.is_zero()),
            heartbeat: last(rules, |rule| rule.actions.heartbeat).filter(|time| !time.is_zero()),
            only_state_changes: last(rules, |rule| rule.actions.only_state_changes).unwrap_or(false),
            rule: rules.last().map(|rule| Arc::clone(&rule.name)),
            decisions: decisions(rules),
            ..Self::default()
        };
        let one_line = |name: &String| Some(super::schema::line_of(name)).filter(|name| !name.is_empty());
        let by_rule = last(rules, |rule| rule.actions.override_measurement.clone());
        merged.override_measurement =
            by_rule.as_ref().and_then(one_line).or_else(|| schema.override_measurement.as_ref().and_then(one_line));
        let with_global = |global: &[String], by_rule: Option<Vec<String>>| {
            Names::new(global.iter().cloned().chain(by_rule.unwrap_or_default()).collect())
        };
        let ignored = last(rules, |rule| rule.actions.ignore_attributes.clone());
        merged.ignore_attributes = with_global(&schema.ignore_attributes, ignored);
        let tags = last(rules, |rule| rule.actions.tags_attributes.clone());
        merged.tags_attributes = with_global(&schema.tags_attributes, tags);
        for (_, value) in &mut merged.tags {
            *value = super::schema::line_of(value);
        }
        for rule in rules {
            for (name, actions) in rule.actions.fields.iter().flatten() {
                match merged.fields.iter_mut().find(|field| field.name == *name) {
                    Some(field) => field.add(actions, &rule.name),
                    None => merged.fields.push(FieldRule::new(name, actions, &rule.name)),
                }
            }
        }
        merged
    }

    /// Whether some changes are not written at once or at all, or more than them is written.
    #[must_use]
    pub fn has_pace(&self) -> bool {
        self.only_state_changes || self.throttle.is_some() || self.heartbeat.is_some()
    }

    /// What is done with the fields of this name.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&FieldRule> {
        self.fields.iter().find(|field| field.name == name)
    }
}

/// What the most specific rule says of those that say anything.
fn last<T>(rules: &[&Rule], what: impl Fn(&Rule) -> Option<T>) -> Option<T> {
    rules.iter().rev().find_map(|rule| what(rule))
}

/// All that rules say, and of two that say something about the same key the later one. Nothing for a key means nothing.
fn by_key<T: Clone>(rules: &[&Rule], what: impl Fn(&Rule) -> &Option<Vec<(String, T)>>) -> Vec<(String, T)> {
    let mut merged: Vec<(String, T)> = Vec::new();
    for (key, value) in rules.iter().flat_map(|rule| what(rule).iter().flatten()) {
        match merged.iter_mut().find(|(known, _)| known == key) {
            Some((_, old)) => old.clone_from(value),
            None => merged.push((key.clone(), value.clone())),
        }
    }
    merged
}

/// Whether a rule says something of one kind.
type Says = fn(&Rule) -> bool;

/// Where one rule replaces what another says, the one that counts; where they add to each other, all of them.
fn decisions(rules: &[&Rule]) -> Vec<Decision> {
    const REPLACED: bool = false;
    const ADDED: bool = true;
    let all: [(&'static str, bool, Says); 13] = [
        ("drop", REPLACED, |rule| rule.actions.drop.is_some()),
        ("override_measurement", REPLACED, |rule| rule.actions.override_measurement.is_some()),
        ("rename_measurements", ADDED, |rule| rule.actions.rename_measurements.is_some()),
        ("ignore_attributes", REPLACED, |rule| rule.actions.ignore_attributes.is_some()),
        ("keep_attributes", REPLACED, |rule| rule.actions.keep_attributes.is_some()),
        ("tags_attributes", REPLACED, |rule| rule.actions.tags_attributes.is_some()),
        ("tags", ADDED, |rule| rule.actions.tags.is_some()),
        ("rename_fields", ADDED, |rule| rule.actions.rename_fields.is_some()),
        ("fields", ADDED, |rule| rule.actions.fields.is_some()),
        ("state_numbers", ADDED, |rule| rule.actions.state_numbers.is_some()),
        ("throttle", REPLACED, |rule| rule.actions.throttle.is_some()),
        ("heartbeat", REPLACED, |rule| rule.actions.heartbeat.is_some()),
        ("only_state_changes", REPLACED, |rule| rule.actions.only_state_changes.is_some()),
    ];
    let mut decisions = Vec::new();
    for (what, adds, says) in all {
        let saying: Vec<_> = rules.iter().filter(|rule| says(rule)).collect();
        let counting = if adds { &saying[..] } else { &saying[saying.len().saturating_sub(1)..] };
        decisions.extend(counting.iter().map(|rule| Decision { what, by: Arc::clone(&rule.name) }));
    }
    decisions
}

impl Names {
    #[must_use]
    pub fn new(mut names: Vec<String>) -> Self {
        names.sort_unstable();
        names.dedup();
        Self(names.into())
    }

    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.binary_search_by(|known| known.as_str().cmp(name)).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Treatment, Treatments};
    use crate::config::settings;
    use crate::model::entity::EntityId;
    use crate::model::registries::{Named, Registered, Registries};
    use crate::rules::{Actions, FieldActions, Rule, Rules, Selection};

    fn rule(name: &str, actions: Actions) -> Rule {
        Rule { name: name.into(), selection: Selection::default(), actions }
    }

    fn of(schema: &settings::Schema, rules: &[Actions]) -> Treatment {
        let named: Vec<Rule> =
            rules.iter().enumerate().map(|(at, actions)| rule(&format!("r{at}"), actions.clone())).collect();
        Treatment::of(&named.iter().collect::<Vec<_>>(), schema)
    }

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    fn pairs(text: &str) -> Vec<(String, String)> {
        let pair = |word: &str| word.split_once('=').map(|(key, value)| (key.into(), value.into()));
        text.split_whitespace().filter_map(pair).collect()
    }

    #[test]
    fn of_two_rules_the_later_one_counts_unless_it_says_nothing() {
        let first = Actions {
            drop: Some(true),
            override_measurement: Some("a".into()),
            throttle: Some(Duration::from_secs(10)),
            heartbeat: Some(Duration::from_mins(1)),
            only_state_changes: Some(true),
            keep_attributes: Some(words("x y")),
            ..Actions::default()
        };
        let silent = of(&settings::Schema::default(), &[first.clone(), Actions::default()]);
        assert!(silent.drops && silent.only_state_changes && silent.has_pace());
        assert_eq!(silent.override_measurement.as_deref(), Some("a"));
        assert_eq!((silent.throttle, silent.heartbeat), (Some(Duration::from_secs(10)), Some(Duration::from_mins(1))));

        let second = Actions {
            drop: Some(false),
            override_measurement: Some("b".into()),
            throttle: Some(Duration::ZERO),
            heartbeat: Some(Duration::ZERO),
            only_state_changes: Some(false),
            keep_attributes: Some(Vec::new()),
            ..Actions::default()
        };
        let both = of(&settings::Schema::default(), &[first, second]);
        assert!(!both.drops && !both.only_state_changes && !both.has_pace());
        assert_eq!(both.override_measurement.as_deref(), Some("b"));
        assert!(!both.keep_attributes.unwrap().contains("x"));
    }

    #[test]
    fn a_list_to_ignore_replaces_a_less_specific_one_and_the_global_one_counts_in_addition() {
        let schema = settings::Schema {
            ignore_attributes: words("g"),
            tags_attributes: words("t"),
            override_measurement: Some("all".into()),
            ..settings::Schema::default()
        };
        let ignoring = |list: &str| Actions {
            ignore_attributes: Some(words(list)),
            tags_attributes: Some(words(list)),
            ..Actions::default()
        };
        let merged = of(&schema, &[ignoring("a b"), ignoring("b c"), Actions::default()]);
        for (name, expected) in [("a", false), ("b", true), ("c", true), ("g", true), ("t", false)] {
            assert_eq!(merged.ignore_attributes.contains(name), expected, "{name}");
        }
        for (name, expected) in [("a", false), ("c", true), ("g", false), ("t", true)] {
            assert_eq!(merged.tags_attributes.contains(name), expected, "{name}");
        }
        // Home Assistant goes on to the next source if a name is empty.
        assert_eq!(merged.override_measurement.as_deref(), Some("all"));
        let empty = Actions { override_measurement: Some(String::new()), ..Actions::default() };
        assert_eq!(of(&schema, &[empty]).override_measurement.as_deref(), Some("all"));
    }

    #[test]
    fn what_has_keys_is_merged_by_key() {
        let actions = |text: &str, scale: f64, round: Option<u8>| Actions {
            tags: Some(pairs(text)),
            rename_fields: Some(pairs(text)),
            rename_measurements: Some(pairs(text)),
            state_numbers: Some(vec![("heat".into(), scale)]),
            fields: Some(vec![("value".into(), FieldActions { scale: Some(scale), round, ..FieldActions::default() })]),
            ..Actions::default()
        };
        let merged =
            of(&settings::Schema::default(), &[actions("a=1 b=2", 2.0, Some(1)), actions("b=3 c=4", 3.0, None)]);
        for list in [&merged.tags, &merged.rename_fields, &merged.rename_measurements] {
            assert_eq!(*list, pairs("a=1 b=3 c=4"));
        }
        assert_eq!(merged.state_numbers, [("heat".to_owned(), 3.0)]);
        let field = merged.field("value").unwrap();
        assert_eq!((field.actions.scale, field.actions.round, &*field.rule), (Some(3.0), Some(1), "r1"));
        let told: Vec<_> =
            merged.decisions.iter().map(|decision| format!("{} {}", decision.what, decision.by)).collect();
        assert_eq!(told[..4], ["rename_measurements r0", "rename_measurements r1", "tags r0", "tags r1"]);
    }

    #[test]
    fn entities_with_the_same_rules_share_what_is_done() {
        let mut rules = Rules::default();
        for (name, glob) in [("all lights", "light.*"), ("halls", "*.hall_*")] {
            let selection = Selection { entity_globs: vec![glob.into()], ..Selection::default() };
            rules.rules.push(Rule { selection, ..rule(name, Actions::default()) });
        }
        let mut treatments = Treatments::new(&rules);
        for number in 0..10_000 {
            for name in ["light.hall_", "light.x", "fan.hall_", "fan.x"] {
                let entity = EntityId::parse(&format!("{name}{number}")).unwrap();
                assert!(treatments.find(&entity, None).is_some());
            }
        }
        assert_eq!(treatments.shared.len(), 3);
        let plain = treatments.find(&EntityId::parse("fan.a").unwrap(), None).unwrap();
        assert!(Arc::ptr_eq(&plain, &treatments.plain));
    }

    #[test]
    fn what_the_registries_say_matters_only_if_it_is_asked_for() {
        let registries = || {
            let area = Some(Arc::new(Named { name: "Hall".into(), id: "hall".into() }));
            let entity = EntityId::parse("light.a").unwrap();
            let registered = Registered { area, ..Registered::default() };
            Arc::new(Registries { entities: [(entity, registered)].into() })
        };
        assert!(!Treatments::new(&Rules::default()).learn(registries()));
        let mut rules = Rules::default();
        rules.filter.include.registry.areas = words("hall");
        let mut treatments = Treatments::new(&rules);
        let light = EntityId::parse("light.a").unwrap();
        assert!(treatments.find(&light, None).is_none());
        assert!(treatments.learn(registries()));
        assert!(treatments.find(&light, None).is_some());
        assert!(!treatments.learn(registries()), "nothing is different");
    }
}
