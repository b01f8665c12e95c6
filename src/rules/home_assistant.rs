//! Home Assistant's own block `influxdb:`, read as Home Assistant reads it: which values it takes for a text or a list, and
//! what it refuses.
//!
//! Where to write to is said by our options. So the keys of the connection are accepted, and their values are not looked at:
//! they hold passwords, or `!secret`.

use std::sync::Arc;

use super::faults::{Faults, Place, Spot, Warning};
use super::read::{Read, choice, group};
use super::tree::Tree;
use super::yaml11;
use super::{Actions, Rule, Selection};
use crate::config::faults::shown;
use crate::config::settings::{EntitySet, Filter, MeasurementFrom, Schema};

group! {
    /// Home Assistant's own block `influxdb:`, as it stands in configuration.yaml.
    pub(super) struct Block {
        /// Not used: the options say where to write.
        api_version: Ignored,
        /// Not used: the options say where to write.
        host: Ignored,
        /// Not used: the options say where to write.
        path: Ignored,
        /// Not used: the options say where to write.
        port: Ignored,
        /// Not used: the options say where to write.
        ssl: Ignored,
        /// Not used: the options say where to write.
        verify_ssl: Ignored,
        /// Not used: the options say where to write.
        ssl_ca_cert: Ignored,
        /// Not used: times are written to the microsecond.
        precision: Ignored,
        /// Not used: the options say where to write.
        username: Ignored,
        /// Not used: the options say where to write.
        password: Ignored,
        /// Not used: the options say where to write.
        database: Ignored,
        /// Not used: the options say where to write.
        token: Ignored,
        /// Not used: the options say where to write.
        organization: Ignored,
        /// Not used: the options say where to write.
        bucket: Ignored,
        /// Not used: what could not be written is written later, however long that takes.
        max_retries: Ignored,
        /// Where the name of a measurement comes from.
        measurement_attr: MeasurementFrom,
        /// The measurement of what has none otherwise.
        default_measurement: Text,
        /// One measurement for everything.
        override_measurement: Text,
        /// Tags that every point gets.
        tags: Named<Text>,
        /// Attributes that become tags.
        tags_attributes: Texts,
        /// Attributes that are not written.
        ignore_attributes: Texts,
        /// For single entities, by entity id.
        component_config: Named<Custom>,
        /// For entities whose id matches a pattern.
        component_config_glob: Named<Custom>,
        /// For domains.
        component_config_domain: Named<Custom>,
        /// Only these entities are written.
        include: Lists,
        /// These entities are not written.
        exclude: Lists,
    }
}

group! {
    /// What is different for some entities.
    pub(super) struct Custom {
        /// Their measurement.
        override_measurement: Text,
        /// Attributes of theirs that are not written.
        ignore_attributes: Texts,
    }
}

group! {
    /// Entities by what they are called.
    pub(super) struct Lists {
        /// Domains such as `sensor`.
        domains: Texts,
        /// Patterns over entity ids.
        entity_globs: Texts,
        /// Entity ids: a list, or one text with commas between.
        entities: EntityIds,
    }
}

/// The block, which may be empty, or the only item of a list.
#[derive(Debug, Default)]
pub(super) struct OneBlock(Block);

impl Read for OneBlock {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        match tree {
            Tree::Null => Some(Self::default()),
            Tree::List(items) if let [block] = items.as_slice() => Block::read(block, &at.item(0), faults).map(Self),
            Tree::List(_) => {
                faults.at(at, "must be one block, not several");
                None
            }
            block => Block::read(block, at, faults).map(Self),
        }
    }
}

/// Whatever it is.
#[derive(Debug)]
pub(super) struct Ignored;

impl Read for Ignored {
    fn read(_: &Tree, _: &Place, _: &mut Faults<'_>) -> Option<Self> {
        Some(Self)
    }
}

/// Whatever Python's `str()` makes a text of, but not nothing, a list or a group.
#[derive(Debug)]
pub(super) struct Text(String);

impl Read for Text {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        python_text(tree, at, Spot::Value, faults).map(Self)
    }
}

/// The text that Home Assistant has for a scalar.
fn python_text(tree: &Tree, at: &Place, spot: Spot, faults: &mut Faults<'_>) -> Option<String> {
    let text = match tree {
        Tree::Text(text) if text.is_empty() || yaml11::read(text) == yaml11::Word::Text => return Some(text.clone()),
        Tree::Text(_) | Tree::Bool(_) | Tree::Integer(_) | Tree::Float(_) => {
            match faults.plain_source(at, spot) {
                Some(word) => yaml11::python_text(&word),
                // It stands in quotes.
                None => Some(tree.as_key()),
            }
        }
        Tree::Null => None,
        Tree::List(_) | Tree::Map(_) | Tree::Tagged(_) => {
            faults.wrong(at, "text", tree);
            return None;
        }
    };
    if text.is_none() {
        faults.wrong(at, "text", &Tree::Null);
    }
    text
}

/// One or a list; nothing is an empty list.
#[derive(Debug)]
pub(super) struct Texts(Vec<String>);

impl Read for Texts {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        match tree {
            Tree::Null => Some(Self(Vec::new())),
            Tree::List(_) => {
                let texts: Vec<Text> = Read::read(tree, at, faults)?;
                Some(Self(texts.into_iter().map(|Text(text)| text).collect()))
            }
            one => Text::read(one, at, faults).map(|Text(text)| Self(vec![text])),
        }
    }
}

/// A list of entity ids in any case, or one text with commas between them.
#[derive(Debug)]
pub(super) struct EntityIds(Vec<String>);

impl Read for EntityIds {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        let typed: Vec<(Place, String)> = match tree {
            Tree::Text(text) => text.split(',').map(|id| (at.clone(), id.trim().to_owned())).collect(),
            Tree::List(items) => {
                let item = |(number, item)| {
                    let place = at.item(number);
                    let text = python_text(item, &place, Spot::Value, faults)?;
                    Some((place, text))
                };
                items.iter().enumerate().filter_map(item).collect()
            }
            other => {
                faults.wrong(at, "a list of entity ids", other);
                return None;
            }
        };
        let mut ids = Vec::with_capacity(typed.len());
        for (place, text) in typed {
            match entity_id(&text) {
                Ok(id) => ids.push(id),
                Err(problem) => faults.at(&place, problem),
            }
        }
        Some(Self(ids))
    }
}

/// In lower case, if Home Assistant takes it for one.
fn entity_id(text: &str) -> Result<String, String> {
    let id = text.to_lowercase();
    let is_slug = |part: &str| {
        let letters = |letter: char| letter == '_' || letter.is_ascii_digit() || letter.is_ascii_lowercase();
        !part.is_empty() && !part.starts_with('_') && !part.ends_with('_') && part.chars().all(letters)
    };
    match id.split_once('.') {
        // Its pattern refuses two underscores in a row, wherever they are.
        Some((domain, object)) if is_slug(domain) && is_slug(object) && !id.contains("__") => Ok(id),
        _ => Err(format!(
            "`{}` is no entity id like sensor.kitchen_temperature, as Home Assistant says too",
            shown(text)
        )),
    }
}

/// Names, as texts, and what belongs to them, each with the place of its key.
#[derive(Debug)]
pub(super) struct Named<T>(Vec<(Place, String, T)>);

impl<T: Read> Read for Named<T> {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        let Tree::Map(entries) = tree else {
            faults.wrong(at, "a group of keys", tree);
            return None;
        };
        faults.report_twins(entries.iter().map(|(key, _)| key.as_key()), at);
        let mut named = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let place = at.key(&key.as_key());
            let name = python_text(key, &place, Spot::Key(1), faults);
            let value = T::read(value, &place, faults);
            if let (Some(name), Some(value)) = (name, value) {
                named.push((place, name, value));
            }
        }
        Some(Self(named))
    }
}

impl Read for MeasurementFrom {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        let known = [
            ("unit_of_measurement", Self::UnitOfMeasurement),
            ("domain__device_class", Self::DomainDeviceClass),
            ("entity_id", Self::EntityId),
        ];
        choice(tree, at, faults, &known)
    }
}

/// What a block says, as far as it says it.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// `None`: it has neither `include` nor `exclude`.
    pub(super) filter: Option<Filter>,
    /// In the order of precedence among themselves.
    pub(super) rules: Vec<Rule>,
}

impl OneBlock {
    /// Puts what the block says about names into `schema`, and returns the rest. Each key that is given replaces the option.
    pub(super) fn apply(self, schema: &mut Schema, faults: &mut Faults<'_>, warnings: &mut Vec<Warning>) -> Said {
        let Self(block) = self;
        warn_of_connection(&block, warnings);
        let before = schema.clone();
        if let Some(from) = block.measurement_attr {
            schema.measurement = from;
        }
        if let Some(Text(name)) = block.default_measurement {
            schema.default_measurement = given(name);
        }
        if let Some(Text(name)) = block.override_measurement {
            schema.override_measurement = given(name);
        }
        if let Some(Named(tags)) = block.tags {
            schema.tags.clear();
            // Two that are written differently may be the same, such as 1 and "1": the last one counts.
            for (_, key, Text(value)) in tags {
                schema.tags.retain(|(known, _)| *known != key);
                schema.tags.push((key, value));
            }
        }
        if let Some(Texts(names)) = block.tags_attributes {
            schema.tags_attributes = names;
        }
        if let Some(Texts(names)) = block.ignore_attributes {
            schema.ignore_attributes = names;
        }
        warn_of_replaced(&before, schema, warnings);

        let filter = match (block.include, block.exclude) {
            (None, None) => None,
            (include, exclude) => Some(Filter { include: entity_set(include), exclude: entity_set(exclude) }),
        };
        let mut rules = Vec::new();
        let domain = |domain: &str| Selection { domains: vec![domain.to_owned()], ..Selection::default() };
        customize("component_config_domain", block.component_config_domain, &domain, &mut rules);
        let glob = |glob: &str| Selection { entity_globs: vec![glob.to_owned()], ..Selection::default() };
        customize("component_config_glob", block.component_config_glob, &glob, &mut rules);
        let exact = block.component_config.map(|named| with_entity_ids(named, faults));
        let entity = |entity: &str| Selection { entities: vec![entity.to_owned()], ..Selection::default() };
        customize("component_config", exact, &entity, &mut rules);
        Said { filter, rules }
    }
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn entity_set(lists: Option<Lists>) -> EntitySet {
    let lists = lists.unwrap_or_default();
    let texts = |texts: Option<Texts>| texts.map(|Texts(texts)| texts).unwrap_or_default();
    EntitySet {
        domains: texts(lists.domains),
        entity_globs: texts(lists.entity_globs),
        entities: lists.entities.map(|EntityIds(ids)| ids).unwrap_or_default(),
        ..EntitySet::default()
    }
}

/// Of keys that are one entity in different cases the last counts.
fn with_entity_ids(Named(entries): Named<Custom>, faults: &mut Faults<'_>) -> Named<Custom> {
    let mut known: Vec<(Place, String, Custom)> = Vec::with_capacity(entries.len());
    for (place, key, custom) in entries {
        match entity_id(&key) {
            Ok(id) => known.push((place, id, custom)),
            Err(problem) => faults.at_key(&place, problem),
        }
    }
    Named(known)
}

fn customize(key: &str, customs: Option<Named<Custom>>, selection: &dyn Fn(&str) -> Selection, rules: &mut Vec<Rule>) {
    let Some(Named(customs)) = customs else { return };
    let mut made: Vec<(String, Rule)> = Vec::with_capacity(customs.len());
    for (_, name, custom) in customs {
        let actions = Actions {
            // An empty one puts an end to that of a less specific rule.
            override_measurement: custom.override_measurement.map(|Text(name)| name),
            ignore_attributes: custom.ignore_attributes.map(|Texts(names)| names),
            ..Actions::default()
        };
        let rule = Rule { name: Arc::from(format!("influxdb.{key}.{name}")), selection: selection(&name), actions };
        made.push((name, rule));
    }
    // Keys that become equal as texts are one key to Home Assistant: the last one counts.
    let mut last = std::collections::HashMap::new();
    for (place, (name, _)) in made.iter().enumerate() {
        last.insert(name.clone(), place);
    }
    rules.extend(
        made.into_iter().enumerate().filter(|(place, (name, _))| last[name] == *place).map(|(_, (_, rule))| rule),
    );
}

fn warn_of_connection(block: &Block, warnings: &mut Vec<Warning>) {
    let keys = [
        ("api_version", &block.api_version),
        ("host", &block.host),
        ("path", &block.path),
        ("port", &block.port),
        ("ssl", &block.ssl),
        ("verify_ssl", &block.verify_ssl),
        ("ssl_ca_cert", &block.ssl_ca_cert),
        ("precision", &block.precision),
        ("username", &block.username),
        ("password", &block.password),
        ("database", &block.database),
        ("token", &block.token),
        ("organization", &block.organization),
        ("bucket", &block.bucket),
        ("max_retries", &block.max_retries),
    ];
    let unused: Vec<&str> = keys.iter().filter(|(_, value)| value.is_some()).map(|(key, _)| *key).collect();
    if !unused.is_empty() {
        let unused = unused.join(", ");
        warnings.push(Warning(format!("influxdb: {unused}: not used here, the options decide where to write and how")));
    }
}

/// An option that was not at its default, and no longer counts.
fn warn_of_replaced(before: &Schema, after: &Schema, warnings: &mut Vec<Warning>) {
    let unset = Schema::default();
    let mut check = |option: &str, key: &str, is_replaced: bool| {
        if is_replaced {
            warnings
                .push(Warning(format!("influxdb.{key} counts, and not the option schema.{option}: empty one of them")));
        }
    };
    let (was, is) = (before, after);
    check("measurement", "measurement_attr", was.measurement != is.measurement && was.measurement != unset.measurement);
    check(
        "default_measurement",
        "default_measurement",
        was.default_measurement != is.default_measurement && was.default_measurement.is_some(),
    );
    check(
        "override_measurement",
        "override_measurement",
        was.override_measurement != is.override_measurement && was.override_measurement.is_some(),
    );
    check("tags", "tags", was.tags != is.tags && !was.tags.is_empty());
    check(
        "tags_attributes",
        "tags_attributes",
        was.tags_attributes != is.tags_attributes && !was.tags_attributes.is_empty(),
    );
    check(
        "ignore_attributes",
        "ignore_attributes",
        was.ignore_attributes != is.ignore_attributes && !was.ignore_attributes.is_empty(),
    );
}

/// What editors are told about the types that are not derived.
#[cfg(test)]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::{Block, EntityIds, Ignored, Named, OneBlock, Text, Texts};
    use crate::config::settings::MeasurementFrom;

    macro_rules! inline {
        ($kind:ty, $generator:ident => $schema:expr) => {
            impl JsonSchema for $kind {
                fn inline_schema() -> bool {
                    true
                }

                fn schema_name() -> Cow<'static, str> {
                    stringify!($kind).into()
                }

                fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                    $schema
                }
            }
        };
    }

    inline!(Ignored, _generator => json_schema!({}));
    inline!(Text, _generator => json_schema!({"type": ["string", "number", "boolean"]}));
    inline!(Texts, generator => {
        let one = generator.subschema_for::<Text>();
        json_schema!({"anyOf": [one, {"type": "array", "items": one}, {"type": "null"}]})
    });
    inline!(EntityIds, _generator => json_schema!({"type": ["string", "array"], "items": {"type": "string"}}));
    inline!(MeasurementFrom, _generator => json_schema!({
        "enum": ["unit_of_measurement", "domain__device_class", "entity_id"]
    }));
    inline!(OneBlock, generator => {
        let block = generator.subschema_for::<Block>();
        json_schema!({"anyOf": [block, {"type": "array", "items": block, "maxItems": 1}, {"type": "null"}]})
    });

    impl<T: JsonSchema> JsonSchema for Named<T> {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "Named".into()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let one = generator.subschema_for::<T>();
            json_schema!({"type": "object", "additionalProperties": one})
        }
    }
}
