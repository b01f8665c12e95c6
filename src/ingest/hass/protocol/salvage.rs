//! A frame that could not be read as a whole is taken apart: messages, entities, attributes. Each piece is read by
//! itself, and only the smallest piece that still cannot be read is lost and counted.
//!
//! This is the slow path. JSON that is broken as text (cut off, a bare `NaN`) has no pieces: the frame is lost.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::fate::Unreadable;
use crate::model::json::{Json, Object, Text};
use crate::model::value::Value;

use super::wire::{Body, ChangeSet, ChangeUnset, Context, Seconds};
use super::{Added, Change, Entities, Fired, Frame, Message, Pairs};

type Raw<'a> = &'a RawValue;

pub(super) fn take_apart(text: &str) -> Frame<'_> {
    let messages: Result<Vec<Raw<'_>>, _> = if text.trim_ascii_start().starts_with('[') {
        serde_json::from_str(text)
    } else {
        serde_json::from_str(text).map(|message| vec![message])
    };
    let Ok(messages) = messages else {
        return Frame { messages: Vec::new(), unreadable: vec![Unreadable::Frame] };
    };
    let mut frame = Frame::default();
    for raw in messages {
        match message(raw, &mut frame.unreadable) {
            Some(message) => frame.messages.push(message),
            None => frame.unreadable.push(Unreadable::Message),
        }
    }
    frame
}

fn message<'a>(raw: Raw<'a>, lost: &mut Vec<Unreadable>) -> Option<Message<'a>> {
    if let Some(message) = read::<Body<'_>>(raw).and_then(|body| body.sort_out().ok()) {
        return Some(message);
    }
    let fields = Fields::of(raw)?;
    let kind = fields.text("type")?;
    match &*kind {
        "event" => {
            let id = read(fields.get("id")?)?;
            let event = Fields::of(fields.get("event")?)?;
            if let Some(event_type) = event.text("event_type") {
                let raw = |name| event.get(name).map(RawValue::get);
                let (data, context) = (raw("data"), raw("context"));
                let fired = Fired { event_type, data, time_fired: event.text("time_fired"), context };
                return Some(Message::Fired { id, fired });
            }
            let entities = entities(&event, lost);
            Some(Message::Event { id, entities })
        }
        "result" | "pong" | "auth_required" | "auth_ok" | "auth_invalid" => None,
        _ => Some(Message::Unknown),
    }
}

fn entities<'a>(event: &Fields<'a>, lost: &mut Vec<Unreadable>) -> Entities<'a> {
    let mut entities = Entities::default();
    if let Some(raw) = event.get("a") {
        entities.added = members(raw, lost, &mut entities.unread, |raw, lost| match read(raw) {
            Some(added) => Some(added),
            None => take_added_apart(raw, lost),
        });
    }
    if let Some(raw) = event.get("c") {
        entities.changed = members(raw, lost, &mut entities.unread, |raw, lost| match read(raw) {
            Some(change) => Some(change),
            None => take_change_apart(raw, lost),
        })
        .unwrap_or_default();
    }
    if let Some(raw) = event.get("r") {
        match read::<Vec<Raw<'a>>>(raw) {
            Some(ids) => {
                for id in ids {
                    match read::<Text<'_>>(id) {
                        Some(id) => entities.removed.push(id.0),
                        None => lost.push(Unreadable::Entity),
                    }
                }
            }
            None => lost.push(Unreadable::Message),
        }
    }
    entities
}

/// Reads each member of an object, counting those that are lost; their names go to `unread`. `None` if there is no
/// object.
fn members<'a, T>(
    raw: Raw<'a>,
    lost: &mut Vec<Unreadable>,
    unread: &mut Vec<Cow<'a, str>>,
    mut read_member: impl FnMut(Raw<'a>, &mut Vec<Unreadable>) -> Option<T>,
) -> Option<Pairs<'a, T>> {
    let Some(fields) = Fields::of(raw) else {
        lost.push(Unreadable::Message);
        return None;
    };
    let mut pairs = Vec::with_capacity(fields.0.len());
    for (name, raw) in fields.0 {
        match read_member(raw, lost) {
            Some(member) => pairs.push((name, member)),
            None => {
                lost.push(Unreadable::Entity);
                unread.push(name);
            }
        }
    }
    Some(pairs)
}

fn take_added_apart<'a>(raw: Raw<'a>, lost: &mut Vec<Unreadable>) -> Option<Added<'a>> {
    let fields = Fields::of(raw)?;
    let state = fields.text("s")?;
    let last_updated = match fields.get("lu") {
        Some(raw) => read::<Seconds>(raw)?,
        None => read::<Seconds>(fields.get("lc")?)?,
    };
    let attributes = attributes(fields.get("a"), lost, &mut Vec::new());
    Some(Added { state, attributes, last_updated: last_updated.0, context: fields.context("c") })
}

fn take_change_apart<'a>(raw: Raw<'a>, lost: &mut Vec<Unreadable>) -> Option<Change<'a>> {
    let fields = Fields::of(raw)?;
    let mut unset: ChangeUnset<'a> = match fields.get("-") {
        Some(raw) => read(raw)?,
        None => ChangeUnset::default(),
    };
    let Some(raw) = fields.get("+") else {
        return Some((ChangeSet::default(), unset).into());
    };
    let fields = Fields::of(raw)?;
    let mut set = ChangeSet { c: Context(fields.context("c")), ..ChangeSet::default() };
    if let Some(raw) = fields.get("s") {
        set.s = Some(read(raw)?);
    }
    if let Some(raw) = fields.get("lc") {
        set.lc = Some(read(raw)?);
    }
    if let Some(raw) = fields.get("lu") {
        set.lu = Some(read(raw)?);
    }
    // An attribute that changed into something unreadable must not keep its old value.
    let attributes = attributes(fields.get("a"), lost, &mut unset.a);
    Some(Change { set: attributes, ..(set, unset).into() })
}

/// The attributes that can be read; the names of the others go to `unread`.
pub(super) fn attributes<'a>(
    raw: Option<Raw<'a>>,
    lost: &mut Vec<Unreadable>,
    unread: &mut Vec<Text<'a>>,
) -> Pairs<'a, Value> {
    let mut pairs = Vec::new();
    let Some(raw) = raw else {
        return pairs;
    };
    let Some(fields) = Fields::of(raw) else {
        lost.push(Unreadable::Attribute);
        return pairs;
    };
    for (name, raw) in fields.0 {
        match read::<Json>(raw) {
            Some(value) => pairs.push((name, value.0)),
            None => {
                lost.push(Unreadable::Attribute);
                unread.push(Text(name));
            }
        }
    }
    pairs
}

/// The members of an object, unread. Of repeated names the last one counts, as in Python.
struct Fields<'a>(Pairs<'a, Raw<'a>>);

impl<'a> Fields<'a> {
    fn of(raw: Raw<'a>) -> Option<Self> {
        read::<Object<'a, Raw<'a>>>(raw).map(|object| Self(object.0))
    }

    fn get(&self, name: &str) -> Option<Raw<'a>> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, raw)| *raw)
    }

    fn text(&self, name: &str) -> Option<Cow<'a, str>> {
        read::<Text<'a>>(self.get(name)?).map(|text| text.0)
    }

    fn context(&self, name: &str) -> Option<crate::model::event::ContextId> {
        read::<Context>(self.get(name)?)?.0
    }
}

fn read<'a, T: Deserialize<'a>>(raw: Raw<'a>) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}
