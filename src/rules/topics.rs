//! What the messages of an MQTT broker mean: presets become mappings like those that a person writes.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::faults::{Faults, Place};
use super::file::{self, PayloadKind, Preset};
use super::make::report_namesakes;
use super::read::{Many, Pairs};
use super::values::Name;
use super::{Field, Mapping, Meaning, Part, Payload, PayloadTime, Rules, Topic};
use crate::config::faults::shown;
use crate::model::topic::TopicFilter;

/// Names of zigbee2mqtt's devices have up to so many levels.
const NAME_LEVELS: usize = 4;

pub(super) fn make(typed: file::Mqtt, at: &Place, made: &mut Rules, faults: &mut Faults<'_>) {
    made.ignored_topics.extend(typed.ignore.into_iter().flat_map(|Many(filters)| filters));
    let list = at.key("topics");
    let topics = typed.topics.unwrap_or_default();
    report_namesakes(topics.iter().map(|topic| topic.as_ref()?.name.as_ref()), &list, faults);
    let mut numbers = Vec::new();
    for (number, topic) in topics.into_iter().enumerate() {
        let at = list.item(number);
        let Some(topic) = topic.and_then(|topic| of_topic(topic, &at, &mut made.ignored_topics, faults)) else {
            continue;
        };
        match made.topics.iter().position(|earlier| earlier.filter == topic.filter) {
            Some(first) => {
                let problem =
                    format!("is the same as that of {}, which takes all its messages", list.item(numbers[first]));
                faults.at(&at.key("topic"), problem);
            }
            None => {
                made.topics.push(topic);
                numbers.push(number);
            }
        }
    }
}

fn of_topic(typed: file::Topic, at: &Place, ignored: &mut Vec<TopicFilter>, faults: &mut Faults<'_>) -> Option<Topic> {
    let name: Arc<str> = match &typed.name {
        Some(Name(name)) => name.as_str().into(),
        None => at.to_string().into(),
    };
    let retained = typed.retained.unwrap_or_default();
    let filter = topic_of(&typed, at, faults)?;
    let meaning = match typed.preset {
        None => Meaning::Point(own(typed, &filter, at, faults)?),
        Some(Preset::MqttStatestream) => {
            report_useless(&typed, &STREAM_USELESS, "mqtt_statestream knows what its messages mean", at, faults);
            all_below(&filter, at, faults)?;
            Meaning::StateStream
        }
        Some(Preset::MqttEventstream) => {
            report_useless(&typed, &STREAM_USELESS, "mqtt_eventstream knows what its messages mean", at, faults);
            Meaning::EventStream
        }
        Some(Preset::Zigbee2mqtt) => {
            let base = all_below(&filter, at, faults)?;
            ignored.extend(zigbee2mqtts_own(base));
            let device = Part::LevelsFrom(first_level_after(base));
            Meaning::Point(of_preset(typed, "zigbee2mqtt", vec![("device", device)], &[], at, faults))
        }
        Some(Preset::Tasmota) => {
            let base = all_below(&filter, at, faults)?;
            // Whether it is there, which is no JSON.
            ignored.extend(filters([format!("{base}/+/LWT")]));
            let device = i32::try_from(first_level_after(base).get()).expect("a topic has at most 65535 bytes");
            let tags = vec![("device", Part::Level(device)), ("message", Part::Level(-1))];
            // Its own clock, without an offset to UTC.
            Meaning::Point(of_preset(typed, "tasmota", tags, &["Time", "Time_str"], at, faults))
        }
    };
    report_missing_levels(&meaning, &filter, at, faults);
    Some(Topic { name, filter, retained, meaning })
}

/// The topic that was typed, or that of the preset.
fn topic_of(typed: &file::Topic, at: &Place, faults: &mut Faults<'_>) -> Option<TopicFilter> {
    if let Some(filter) = &typed.topic {
        return Some(filter.clone());
    }
    // Which preset was meant, and so whether it needs a topic, is not known.
    if ["topic", "preset"].iter().any(|key| faults.has_any_in(&at.key(key))) {
        return None;
    }
    let usual = match typed.preset {
        Some(Preset::Zigbee2mqtt) => "zigbee2mqtt/#",
        Some(Preset::Tasmota) => "tele/#",
        Some(Preset::MqttStatestream) => {
            faults.at(at, "needs `topic`: `base_topic` of mqtt_statestream, and /# after it");
            return None;
        }
        Some(Preset::MqttEventstream) => {
            faults.at(at, "needs `topic`: `publish_topic` of mqtt_eventstream");
            return None;
        }
        None => {
            faults.at(at, "needs `topic`: whose messages it means, like meters/+/power");
            return None;
        }
    };
    Some(TopicFilter::parse(usual).expect("it is a topic filter"))
}

/// The topic before `/#`, which these presets need.
fn all_below<'a>(filter: &'a TopicFilter, at: &Place, faults: &mut Faults<'_>) -> Option<&'a str> {
    let base = filter.as_str().strip_suffix("/#").filter(|base| !base.is_empty() && !base.contains('+'));
    if base.is_none() {
        faults.at(&at.key("topic"), "must be the base topic and /# after it, like home/#, for this preset");
    }
    base
}

fn first_level_after(base: &str) -> NonZeroU32 {
    let levels = u32::try_from(base.split('/').count()).expect("a topic has at most 65535 bytes");
    NonZeroU32::MIN.saturating_add(levels)
}

/// What is not the state of a device.
fn zigbee2mqtts_own(base: &str) -> Vec<TopicFilter> {
    let of_devices = (1..=NAME_LEVELS).flat_map(|levels| {
        let device = format!("{base}{}", "/+".repeat(levels));
        ["availability", "set", "set/+", "get", "get/+"].map(|what| format!("{device}/{what}"))
    });
    filters([format!("{base}/bridge/#")].into_iter().chain(of_devices))
}

fn filters(texts: impl IntoIterator<Item = String>) -> Vec<TopicFilter> {
    texts.into_iter().filter_map(|text| TopicFilter::parse(&text).ok()).collect()
}

/// A key of an entry, and whether it was given.
type Given = (&'static str, fn(&file::Topic) -> bool);

const STREAM_USELESS: [Given; 9] = [
    ("measurement", |typed| typed.measurement.is_some()),
    ("tags", |typed| typed.tags.is_some()),
    ("payload", |typed| typed.payload.is_some()),
    ("type", |typed| typed.r#type.is_some()),
    ("fields", |typed| typed.fields.is_some()),
    ("separator", |typed| typed.separator.is_some()),
    ("types", |typed| typed.types.is_some()),
    ("ignore_fields", |typed| typed.ignore_fields.is_some()),
    ("time", |typed| typed.time.is_some()),
];

const PRESET_USELESS: [Given; 3] = [
    ("payload", |typed| typed.payload.is_some()),
    ("type", |typed| typed.r#type.is_some()),
    ("fields", |typed| typed.fields.is_some()),
];

const RAW_USELESS: [Given; 5] = [
    ("fields", |typed| typed.fields.is_some()),
    ("separator", |typed| typed.separator.is_some()),
    ("types", |typed| typed.types.is_some()),
    ("ignore_fields", |typed| typed.ignore_fields.is_some()),
    ("time", |typed| typed.time.is_some()),
];

const FIELDS_USELESS: [Given; 3] = [
    ("separator", |typed| typed.separator.is_some()),
    ("types", |typed| typed.types.is_some()),
    ("ignore_fields", |typed| typed.ignore_fields.is_some()),
];

fn report_useless(typed: &file::Topic, useless: &[Given], why: &str, at: &Place, faults: &mut Faults<'_>) {
    for (key, _) in useless.iter().filter(|(_, is_given)| is_given(typed)) {
        faults.at_key(&at.key(key), format_args!("has no meaning here: {why}"));
    }
}

/// The mapping of a preset, with what was typed in addition.
fn of_preset(
    typed: file::Topic,
    measurement: &str,
    tags: Vec<(&str, Part)>,
    ignore_fields: &[&str],
    at: &Place,
    faults: &mut Faults<'_>,
) -> Mapping {
    report_useless(&typed, &PRESET_USELESS, "the preset says which values there are", at, faults);
    let own_tags = typed.tags.map(|Pairs(tags)| tags).unwrap_or_default();
    let mut tags: Vec<(String, Part)> = tags.into_iter().map(|(name, part)| (name.to_owned(), part)).collect();
    tags.retain(|(name, _)| own_tags.iter().all(|(own, _)| own != name));
    tags.extend(own_tags);
    let own_ignored = typed.ignore_fields.map(|Many(names)| names).unwrap_or_default();
    let usually_ignored = ignore_fields.iter().map(|name| (*name).to_owned());
    Mapping {
        measurement: typed.measurement.unwrap_or_else(|| Part::Literal(measurement.to_owned())),
        tags,
        payload: Payload::Object {
            separator: typed.separator.unwrap_or_else(|| "_".to_owned()),
            types: typed.types.map(|Pairs(types)| types).unwrap_or_default(),
        },
        ignore_fields: usually_ignored.chain(own_ignored.into_iter().map(|Name(name)| name)).collect(),
        time: time(typed.time, at, faults),
    }
}

/// The mapping of an entry without a preset.
fn own(typed: file::Topic, filter: &TopicFilter, at: &Place, faults: &mut Faults<'_>) -> Option<Mapping> {
    let is_raw = match typed.payload {
        Some(kind) => kind == PayloadKind::Raw,
        None => typed.r#type.is_some(),
    };
    let tags = typed.tags.as_ref().map(|Pairs(tags)| tags.as_slice()).unwrap_or_default();
    if is_raw {
        report_useless(&typed, &RAW_USELESS, "a raw payload is one value", at, faults);
        let problem = "a raw payload has no keys: use level, or payload: json";
        if matches!(typed.measurement, Some(Part::Json(_))) {
            faults.at(&at.key("measurement"), problem);
        }
        for (name, _) in tags.iter().filter(|(_, part)| matches!(part, Part::Json(_))) {
            faults.at(&at.key("tags").key(name), problem);
        }
    } else {
        if typed.r#type.is_some() {
            faults.at_key(&at.key("type"), "is for a raw payload: give each field its own type");
        }
        if typed.fields.is_some() {
            report_useless(&typed, &FIELDS_USELESS, "`fields` says which values are written", at, faults);
        }
    }
    let payload = if is_raw {
        Payload::Raw { cast: typed.r#type }
    } else if let Some(Pairs(fields)) = typed.fields {
        if fields.is_empty() && !faults.has_any_in(&at.key("fields")) {
            faults.at(&at.key("fields"), "names no field: name one, or remove the line");
        }
        let field = |(name, source): (String, file::FieldSource)| Field { name, path: source.path, cast: source.cast };
        Payload::Fields(fields.into_iter().map(field).collect())
    } else {
        Payload::Object {
            separator: typed.separator.unwrap_or_else(|| "_".to_owned()),
            types: typed.types.map(|Pairs(types)| types).unwrap_or_default(),
        }
    };
    let time = time(typed.time, at, faults);
    let Some(measurement) = typed.measurement else {
        let topic = shown(filter.as_str());
        if ["measurement", "preset"].iter().any(|key| faults.has_any_in(&at.key(key))) {
            return None;
        }
        faults.at(at, format_args!("needs `measurement` or `preset`: what the messages of {topic} become"));
        return None;
    };
    Some(Mapping {
        measurement,
        tags: typed.tags.map(|Pairs(tags)| tags).unwrap_or_default(),
        payload,
        ignore_fields: typed
            .ignore_fields
            .map(|Many(names)| names.into_iter().map(|Name(name)| name).collect())
            .unwrap_or_default(),
        time,
    })
}

fn time(typed: Option<file::Time>, at: &Place, faults: &mut Faults<'_>) -> Option<PayloadTime> {
    match typed? {
        file::Time { json: Some(path), format: Some(format) } => Some(PayloadTime { path, format }),
        _ => {
            let at = at.key("time");
            if !faults.has_any_in(&at) {
                faults.at(&at, "needs `json`, where the time is, and `format`, such as unix_s or rfc3339");
            }
            None
        }
    }
}

/// A level that no topic has that matches.
fn report_missing_levels(meaning: &Meaning, filter: &TopicFilter, at: &Place, faults: &mut Faults<'_>) {
    let Meaning::Point(mapping) = meaning else { return };
    if filter.as_str().ends_with('#') {
        return;
    }
    let levels = filter.as_str().split('/').count();
    let mut check = |part: &Part, at: &Place| {
        let wanted = match part {
            Part::Level(level) => level.unsigned_abs(),
            Part::LevelsFrom(first) => first.get(),
            Part::Literal(_) | Part::Json(_) => return,
        };
        if usize::try_from(wanted).is_ok_and(|wanted| wanted > levels) {
            faults
                .at(at, format_args!("there is no level {wanted}: the topic {} has {levels}", shown(filter.as_str())));
        }
    };
    check(&mapping.measurement, &at.key("measurement"));
    for (name, part) in &mapping.tags {
        check(part, &at.key("tags").key(name));
    }
}
