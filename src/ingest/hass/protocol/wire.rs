//! The shapes of the messages, for one streaming pass over a frame.
//!
//! `id` comes last in an event and `type` anywhere, so a message is read as the union of all messages and sorted out at
//! its end.

use std::fmt;

use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::model::event::ContextId;
use crate::model::json::{Json, Object, Text};
use crate::model::time::Timestamp;
use crate::model::value::Value;

use super::{Added, Change, Entities, Failure, Fired, Message, Pairs};

/// Reads a frame, all of it or nothing.
pub(super) fn read(text: &str) -> Result<Vec<Message<'_>>, serde_json::Error> {
    if text.trim_ascii_start().starts_with('[') {
        let messages: Vec<Body<'_>> = serde_json::from_str(text)?;
        messages.into_iter().map(Body::sort_out).collect()
    } else {
        Ok(vec![serde_json::from_str::<Body<'_>>(text)?.sort_out()?])
    }
}

#[derive(Deserialize)]
pub(super) struct Body<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    id: Option<u64>,
    event: Option<EventBody<'a>>,
    success: Option<bool>,
    /// What it is, only whoever sent the command knows.
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    error: Option<ErrorBody<'a>>,
    ha_version: Option<Text<'a>>,
    message: Option<Text<'a>>,
}

impl<'a> Body<'a> {
    pub(super) fn sort_out(self) -> Result<Message<'a>, serde_json::Error> {
        let id = self.id.ok_or_else(|| de::Error::missing_field("id"));
        let ha_version = self.ha_version.unwrap_or_default().0;
        Ok(match &*self.kind.0 {
            "event" => {
                let event = self.event.ok_or_else(|| <serde_json::Error as de::Error>::missing_field("event"))?;
                match event.event_type {
                    None => Message::Event { id: id?, entities: event.into() },
                    Some(Text(event_type)) => {
                        let fired = Fired {
                            event_type,
                            data: event.data.map(RawValue::get),
                            time_fired: event.time_fired.map(|time| time.0),
                            context: event.context.map(RawValue::get),
                        };
                        Message::Fired { id: id?, fired }
                    }
                }
            }
            "result" => {
                let success = self.success.ok_or_else(|| <serde_json::Error as de::Error>::missing_field("success"))?;
                let error = self.error.unwrap_or_default();
                let failure = Failure { code: error.code.0, message: error.message.0 };
                Message::Result {
                    id: id?,
                    outcome: if success { Ok(self.result.map(RawValue::get)) } else { Err(failure) },
                }
            }
            "pong" => Message::Pong { id: id? },
            "auth_required" => Message::AuthRequired { ha_version },
            "auth_ok" => Message::AuthOk { ha_version },
            "auth_invalid" => Message::AuthInvalid { message: self.message.unwrap_or_default().0 },
            _ => Message::Unknown,
        })
    }
}

#[derive(Default, Deserialize)]
struct ErrorBody<'a> {
    #[serde(borrow, default)]
    code: Text<'a>,
    #[serde(default)]
    message: Text<'a>,
}

/// One of `subscribe_entities`, or, if it has a type, one of `subscribe_events`.
#[derive(Deserialize)]
struct EventBody<'a> {
    #[serde(borrow)]
    a: Option<Object<'a, Added<'a>>>,
    #[serde(default)]
    c: Object<'a, Change<'a>>,
    #[serde(default)]
    r: Vec<Text<'a>>,
    event_type: Option<Text<'a>>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    time_fired: Option<Text<'a>>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
}

impl<'a> From<EventBody<'a>> for Entities<'a> {
    fn from(body: EventBody<'a>) -> Self {
        Self {
            added: body.a.map(|added| added.0),
            changed: body.c.0,
            removed: body.r.into_iter().map(|id| id.0).collect(),
            unread: Vec::new(),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct AddedBody<'a> {
    #[serde(borrow)]
    pub(super) s: Text<'a>,
    #[serde(default)]
    pub(super) a: Object<'a, Json>,
    #[serde(default)]
    pub(super) c: Context,
    pub(super) lc: Seconds,
    pub(super) lu: Option<Seconds>,
}

impl<'a> From<AddedBody<'a>> for Added<'a> {
    fn from(body: AddedBody<'a>) -> Self {
        Self {
            state: body.s.0,
            attributes: values(body.a),
            // Left out when it is the same.
            last_updated: body.lu.unwrap_or(body.lc).0,
            context: body.c.0,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct ChangeBody<'a> {
    #[serde(borrow, default, rename = "+")]
    set: ChangeSet<'a>,
    #[serde(default, rename = "-")]
    unset: ChangeUnset<'a>,
}

#[derive(Default, Deserialize)]
pub(super) struct ChangeSet<'a> {
    #[serde(borrow)]
    pub(super) s: Option<Text<'a>>,
    #[serde(default)]
    pub(super) a: Object<'a, Json>,
    #[serde(default)]
    pub(super) c: Context,
    pub(super) lc: Option<Seconds>,
    pub(super) lu: Option<Seconds>,
}

#[derive(Default, Deserialize)]
pub(super) struct ChangeUnset<'a> {
    #[serde(borrow, default)]
    pub(super) a: Vec<Text<'a>>,
}

impl<'a> From<ChangeBody<'a>> for Change<'a> {
    fn from(body: ChangeBody<'a>) -> Self {
        Self::from((body.set, body.unset))
    }
}

impl<'a> From<(ChangeSet<'a>, ChangeUnset<'a>)> for Change<'a> {
    fn from((set, unset): (ChangeSet<'a>, ChangeUnset<'a>)) -> Self {
        Self {
            state: set.s.map(|state| state.0),
            set: values(set.a),
            unset: unset.a.into_iter().map(|name| name.0).collect(),
            // A change of the state is also an update; Home Assistant then sends only `lc`.
            last_updated: set.lu.or(set.lc).map(|seconds| seconds.0),
            context: set.c.0,
        }
    }
}

/// Seconds since the epoch, with a fraction.
#[derive(Clone, Copy)]
pub(super) struct Seconds(pub(super) Timestamp);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        let time = Timestamp::from_unix_seconds(seconds).ok_or_else(|| de::Error::custom("not a time"))?;
        Ok(Self(time))
    }
}

/// A context id: by itself, or as the `id` of an object with the parent's and the user's. Whatever else stands there
/// is no context, and no reason to lose the state it belongs to.
#[derive(Default)]
pub(super) struct Context(pub(super) Option<ContextId>);

impl<'de> Deserialize<'de> for Context {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ContextVisitor;

        impl<'de> Visitor<'de> for ContextVisitor {
            type Value = Context;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a context")
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Context(ContextId::parse(text)))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut found = Context(None);
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    if key.0 == "id" {
                        found = map.next_value()?;
                    } else {
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(found)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Context(None))
            }

            fn visit_unit<E>(self) -> Result<Self::Value, E> {
                Ok(Context(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                Ok(Context(None))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Context(None))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Context(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Context(None))
            }
        }

        deserializer.deserialize_any(ContextVisitor)
    }
}

fn values(attributes: Object<'_, Json>) -> Pairs<'_, Value> {
    attributes.0.into_iter().map(|(name, value)| (name, value.0)).collect()
}
