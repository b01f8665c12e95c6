//! The services that the simulated home knows: switching, setting a number or a text, notifications.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::home::{Home, USER_ID};
use super::json::read_value;
use super::protocol::push_context;
use super::state::{Change, Happening};
use crate::model::time::Timestamp;
use crate::model::value;

/// The arguments of `call_service`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Call {
    domain: String,
    service: String,
    #[serde(default)]
    target: Map<String, Value>,
    #[serde(default)]
    service_data: Map<String, Value>,
    #[serde(default, rename = "return_response")]
    _return_response: bool,
}

#[derive(Debug)]
pub struct Called {
    /// As JSON.
    pub result: String,
    /// That it was called, which comes before what it changed.
    pub call: Happening,
    pub changes: Vec<Change>,
}

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("Service {0}.{1} not found.")]
    NotFound(String, String),
    #[error("must contain at least one of entity_id, device_id, area_id, floor_id, label_id.")]
    NoTarget,
    #[error("required key not provided @ data['{0}']")]
    Missing(&'static str),
}

impl CallError {
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound(..) => "not_found",
            Self::NoTarget | Self::Missing(_) => "invalid_format",
        }
    }
}

pub fn call(call: Call, home: &mut Home, now: Timestamp) -> Result<Called, CallError> {
    let at = home.tick(now);
    let context = home.context(at, Some(USER_ID));
    let mut changes = Vec::new();
    let data = &call.service_data;
    match (call.domain.as_str(), call.service.as_str()) {
        ("light" | "switch" | "input_boolean" | "homeassistant", service @ ("turn_on" | "turn_off" | "toggle")) => {
            for id in targets(&call)? {
                let Some(old) = home.state(&id) else { continue };
                let on = service == "turn_on" || service == "toggle" && &*old.state != "on";
                let attributes = if id.starts_with("light.") { light(on, data) } else { Vec::new() };
                changes.extend(home.serve(&id, if on { "on" } else { "off" }, attributes, &context, now));
            }
        }
        ("input_number" | "input_text", "set_value") => {
            let value = data.get("value").ok_or(CallError::Missing("value"))?;
            let state = match value {
                Value::String(text) => text.clone(),
                // `set_value` keeps a float, also of a whole number.
                other => other.as_f64().map_or_else(|| other.to_string(), |number| format!("{number:?}")),
            };
            for id in targets(&call)? {
                changes.extend(home.serve(&id, &state, Vec::new(), &context, now));
            }
        }
        ("persistent_notification", "create") => {
            let message = text(data, "message").ok_or(CallError::Missing("message"))?;
            let id = text(data, "notification_id").unwrap_or_else(|| context.id.clone());
            home.notifications.retain(|(known, _)| *known != id);
            home.notifications.push((id, message));
        }
        ("persistent_notification", "dismiss") => {
            let id = text(data, "notification_id").ok_or(CallError::Missing("notification_id"))?;
            home.notifications.retain(|(known, _)| *known != id);
        }
        ("logbook", "log") => {}
        _ => return Err(CallError::NotFound(call.domain, call.service)),
    }
    let mut result = String::from("{\"context\":");
    push_context(&mut result, &context);
    result.push('}');
    let call = Happening::Other { event_type: "call_service".to_owned(), data: told(&call), at, context };
    Ok(Called { result, call, changes })
}

/// The data of the event, in which the target is part of the service's data.
fn told(call: &Call) -> String {
    let mut data = call.service_data.clone();
    data.extend(call.target.clone());
    json!({"domain": call.domain, "service": call.service, "service_data": data}).to_string()
}

/// One id or a list, in the data or in the target.
fn targets(call: &Call) -> Result<Vec<String>, CallError> {
    let named = call.service_data.get("entity_id").or_else(|| call.target.get("entity_id"));
    match named {
        Some(Value::String(id)) => Ok(vec![id.clone()]),
        Some(Value::Array(ids)) => Ok(ids.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect()),
        _ => Err(CallError::NoTarget),
    }
}

fn light(on: bool, data: &Map<String, Value>) -> Vec<(Arc<str>, value::Value)> {
    if !on {
        let names = ["color_mode", "brightness", "hs_color", "rgb_color"];
        return names.map(|name| (name.into(), value::Value::Null)).into();
    }
    let brightness = data.get("brightness").map_or(value::Value::Int(180), read_value);
    vec![("color_mode".into(), value::Value::Text("hs".into())), ("brightness".into(), brightness)]
}

fn text(data: &Map<String, Value>, name: &str) -> Option<String> {
    data.get(name)?.as_str().map(str::to_owned)
}
