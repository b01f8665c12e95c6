//! `rules.yaml` as a person writes it. What the keys say here, editors show: the JSON schema is made of it.

use super::faults::{Faults, Place};
use super::home_assistant::OneBlock;
use super::read::{Many, Pairs, Read, choice, group};
use super::tree::Tree;
use super::values::{Domain, Entity, EntityGlob, EventType, Name, Span};
use super::{FieldType, JsonPath, Part, TimeFormat};
use crate::model::topic::TopicFilter;

group! {
    /// What is written of a home, and under which names.
    pub(super) struct File {
        /// Home Assistant's own block `influxdb:`, as it stands in configuration.yaml.
        influxdb: OneBlock,
        /// Which entities are written, instead of the option `filter`.
        filter: Filter,
        /// Types of events that are written besides changes of states, instead of the option `events`.
        events: Many<EventType>,
        /// What is done with some entities.
        rules: Vec<Option<Rule>>,
        /// What messages of an MQTT broker mean.
        mqtt: Mqtt,
    }
}

group! {
    /// Which entities are written, with the precedence of Home Assistant's own include and exclude.
    pub(super) struct Filter {
        /// Only these.
        include: Lists,
        /// Not these.
        exclude: Lists,
    }
}

group! {
    /// Entities by what they are called and where they belong; one or a list each.
    pub(super) struct Lists {
        /// Domains such as `sensor`.
        domains: Many<Domain>,
        /// Patterns over entity ids with `*`, `?` and `[...]`.
        entity_globs: Many<EntityGlob>,
        /// Entity ids, or patterns over them.
        entities: Many<Entity>,
        /// Areas, by name or id.
        areas: Many<Name>,
        /// Floors, by name or id.
        floors: Many<Name>,
        /// Labels, by name or id.
        labels: Many<Name>,
        /// Devices, by name or id.
        devices: Many<Name>,
        /// Integrations that made the entity, such as `hue`.
        integrations: Many<Name>,
    }
}

group! {
    /// What is done with some entities.
    pub(super) struct Rule {
        /// What the rule is called in answers; without it, its place in the file.
        name: Name,
        /// For which entities. Left out: for all.
        r#match: Match,
        /// `true`: nothing of them is written.
        drop: bool,
        /// The measurement, whatever the options say.
        override_measurement: Name,
        /// From the measurement that there would be to another name.
        rename_measurements: Pairs<Name>,
        /// Attributes that are not written. The list of a more specific rule replaces that of a less specific one; those
        /// of the options count in addition.
        ignore_attributes: Many<Name>,
        /// Only these attributes are written; `[]` is none.
        keep_attributes: Many<Name>,
        /// Attributes that become tags.
        tags_attributes: Many<Name>,
        /// Tags that every point gets.
        tags: Pairs<Name>,
        /// From the name that a field would have to another.
        rename_fields: Pairs<Name>,
        /// What is done with the numbers of a field; `value` is that of the state.
        fields: Pairs<FieldRule>,
        /// What texts of the state are as numbers.
        state_numbers: Pairs<f64>,
        /// At most one point in this time; the last value is written when its turn comes. 0: no limit.
        throttle: Span,
        /// A value that stays as it is is written again after this time. 0: it is not.
        heartbeat: Span,
        /// `true`: not if only attributes changed.
        only_state_changes: bool,
    }
}

group! {
    /// For which entities: those that are in a list of each kind that is given. `entities` and `entity_globs` are one kind.
    pub(super) struct Match {
        /// Domains such as `sensor`.
        domains: Many<Domain>,
        /// Patterns over entity ids with `*`, `?` and `[...]`.
        entity_globs: Many<EntityGlob>,
        /// Entity ids, or patterns over them.
        entities: Many<Entity>,
        /// Areas, by name or id.
        areas: Many<Name>,
        /// Floors, by name or id.
        floors: Many<Name>,
        /// Labels, by name or id.
        labels: Many<Name>,
        /// Devices, by name or id.
        devices: Many<Name>,
        /// Integrations that made the entity, such as `hue`.
        integrations: Many<Name>,
        /// Device classes such as `temperature`.
        device_classes: Many<Name>,
    }
}

group! {
    /// What is done with the numbers of a field, in this order.
    pub(super) struct FieldRule {
        /// To this unit, such as `kW` or `°F`, from that of the entity. Of `value` only.
        unit: Name,
        /// Multiplied by this.
        scale: f64,
        /// Then this is added.
        offset: f64,
        /// What is below becomes this.
        min: f64,
        /// What is above becomes this.
        max: f64,
        /// Decimal places.
        round: i64,
        /// The type that the field is written with.
        cast: FieldType,
    }
}

group! {
    /// What messages of an MQTT broker mean.
    pub(super) struct Mqtt {
        /// Topics that are meant for nobody here.
        ignore: Many<TopicFilter>,
        /// The first entry whose topic matches says what a message means.
        topics: Vec<Option<Topic>>,
    }
}

group! {
    /// What the messages of some topics mean: a preset, or a measurement.
    pub(super) struct Topic {
        /// What the entry is called in answers; without it, its place in the file.
        name: Name,
        /// How a program publishes that is known here.
        preset: Preset,
        /// The topic, with `+` for one level and `#` at the end for all that follow.
        topic: TopicFilter,
        /// Whether messages are wanted that the broker kept from before.
        retained: bool,
        /// The measurement of the points.
        measurement: Part,
        /// Tags of the points.
        tags: Pairs<Part>,
        /// `json`, or `raw` for a payload that is one value. Without it `json`, or `raw` if there is a `type`.
        payload: PayloadKind,
        /// The type of a raw value.
        r#type: FieldType,
        /// Which values of a JSON payload are written, and under which names. Left out: every value of the object.
        fields: Pairs<FieldSource>,
        /// What stands between the keys of a value within another. Without it `_`.
        separator: String,
        /// The types of fields, by their names.
        types: Pairs<FieldType>,
        /// Fields that are not written; a `*` at the end stands for any text.
        ignore_fields: Many<Name>,
        /// Where the time of a message is. Without it the time of its arrival counts.
        time: Time,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline, rename_all = "snake_case"))]
pub(super) enum Preset {
    Zigbee2mqtt,
    Tasmota,
    MqttStatestream,
    MqttEventstream,
}

impl Read for Preset {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        let known = [
            ("zigbee2mqtt", Self::Zigbee2mqtt),
            ("tasmota", Self::Tasmota),
            ("mqtt_statestream", Self::MqttStatestream),
            ("mqtt_eventstream", Self::MqttEventstream),
        ];
        choice(tree, at, faults, &known)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline, rename_all = "snake_case"))]
pub(super) enum PayloadKind {
    Raw,
    Json,
}

impl Read for PayloadKind {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        choice(tree, at, faults, &[("raw", Self::Raw), ("json", Self::Json)])
    }
}

/// A place in the payload, or a group with the place and the type.
#[derive(Debug)]
pub(super) struct FieldSource {
    pub(super) path: JsonPath,
    pub(super) cast: Option<FieldType>,
}

group! {
    /// A value of the payload.
    pub(super) struct FieldSourceKeys {
        /// Where it is: keys with dots between.
        json: JsonPath,
        /// The type that it is written with.
        r#type: FieldType,
    }
}

impl Read for FieldSource {
    fn read(tree: &Tree, at: &Place, faults: &mut Faults<'_>) -> Option<Self> {
        if !matches!(tree, Tree::Map(_)) {
            return JsonPath::read(tree, at, faults).map(|path| Self { path, cast: None });
        }
        let keys = FieldSourceKeys::read(tree, at, faults)?;
        if !has(tree, "json") {
            faults.at(at, "needs `json`: where the value is in the payload");
        }
        keys.json.map(|path| Self { path, cast: keys.r#type })
    }
}

group! {
    /// Where the time of a message is; a message without it is refused.
    pub(super) struct Time {
        /// Where it is in the payload: keys with dots between.
        json: JsonPath,
        /// How it is written.
        format: TimeFormat,
    }
}

/// Whether a group has a key, right or wrong.
pub(super) fn has(group: &Tree, wanted: &str) -> bool {
    matches!(group, Tree::Map(entries) if entries.iter().any(|(key, _)| key.as_key() == wanted))
}

/// What editors are told about the types that are not derived.
#[cfg(test)]
mod schema {
    use std::borrow::Cow;

    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::super::JsonPath;
    use super::{FieldSource, FieldSourceKeys};

    impl JsonSchema for FieldSource {
        fn inline_schema() -> bool {
            true
        }

        fn schema_name() -> Cow<'static, str> {
            "FieldSource".into()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let path = generator.subschema_for::<JsonPath>();
            let keys = generator.subschema_for::<FieldSourceKeys>();
            json_schema!({"anyOf": [path, keys]})
        }
    }
}
