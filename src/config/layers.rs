//! Defaults, then the options file, then the environment: the later layer wins, option by option.
//!
//! Each layer is compared with the tree of defaults before it is merged. So every wrong type and unknown name is found
//! at once, and no library words a message about them: it would quote the value, which may be a secret.

use std::io;
use std::path::Path;

use figment::Figment;
use figment::error::Kind;
use figment::providers::Serialized;
use serde_json::{Map, Value};

use super::Machine;
use super::faults::{Faults, instead, shown};
use super::options::{InfluxDb, Options};
use super::variables;

/// Where the Supervisor puts what was typed in the add-on's options.
const SUPERVISORS_OPTIONS: &str = "/data/options.json";

/// What was typed, all layers together. Wrong values are reported, and the default stands in for them.
pub(super) fn merge(options_file: Option<&Path>, machine: &Machine<'_>, faults: &mut Faults) -> Options {
    let shape = shape();
    let file = read_file(options_file, &shape, machine, faults);
    let environment = variables::read(&shape, machine, faults);
    let environment = sift("", environment, &shape, faults).expect("the environment's layer is a group of options");
    let mut merged: Value = Figment::from(Serialized::defaults(Options::default()))
        .merge(Serialized::defaults(file))
        .merge(Serialized::defaults(environment))
        .extract()
        .expect("any tree is a value");
    // The types are right by now; a choice that does not exist is all that can be wrong. There is one error at a time:
    // with the default in its place, or without it, the next one shows.
    loop {
        match Figment::from(Serialized::defaults(&merged)).extract() {
            Ok(options) => return options,
            Err(error) => match error.path.split_last() {
                // An item of a list of choices has no default. It is named by the list, as every item of text is.
                Some((item, list)) if let Ok(place) = item.parse::<usize>() => {
                    faults.also_at(&key_of(list), wrong_choice(&error.kind));
                    take_out(&mut merged, list, place);
                }
                _ => {
                    faults.at(&key_of(&error.path), wrong_choice(&error.kind));
                    put_default(&mut merged, &error.path, &shape);
                }
            },
        }
    }
}

/// Items of a list are counted from 1, as people do.
fn key_of(path: &[String]) -> String {
    let part = |part: &String| part.parse::<usize>().map_or(part.clone(), |index| (index + 1).to_string());
    path.iter().map(part).collect::<Vec<_>>().join(".")
}

fn put_default(merged: &mut Value, path: &[String], shape: &Value) {
    let in_shape: Vec<&str> =
        path.iter().map(|part| if part.parse::<usize>().is_ok() { "0" } else { part.as_str() }).collect();
    let default = shape.pointer(&format!("/{}", in_shape.join("/"))).expect("only known options were merged");
    *merged.pointer_mut(&format!("/{}", path.join("/"))).expect("the error is about what was merged") = default.clone();
}

fn take_out(merged: &mut Value, list: &[String], place: usize) {
    let list = merged.pointer_mut(&format!("/{}", list.join("/"))).and_then(Value::as_array_mut);
    list.expect("the error is about an item of a list").remove(place);
}

fn wrong_choice(kind: &Kind) -> String {
    match kind {
        Kind::UnknownVariant(typed, known) => format!("`{}` is no choice: {}", shown(typed), instead(typed, known)),
        // Other kinds may quote the value, which may be a secret.
        _ => "cannot be understood".to_owned(),
    }
}

/// The defaults, with one item in the list of mirrors to show what an item holds.
fn shape() -> Value {
    let shape = Options { mirrors: vec![InfluxDb::default()], ..Options::default() };
    serde_json::to_value(shape).expect("options are plain data")
}

/// The options file as far as it is right.
fn read_file(path: Option<&Path>, shape: &Value, machine: &Machine<'_>, faults: &mut Faults) -> Value {
    let nothing = || Value::Object(Map::new());
    let file = path.unwrap_or(Path::new(SUPERVISORS_OPTIONS));
    let text = match (machine.read)(file) {
        Ok(text) => text,
        Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => return nothing(),
        Err(error) => {
            faults.add(format!("cannot read the options file {}: {error}", shown(&file.to_string_lossy())));
            return nothing();
        }
    };
    // Some editors begin a file with a byte order mark, which is no JSON.
    let typed = serde_json::from_str(text.strip_prefix('\u{feff}').unwrap_or(&text)).unwrap_or_else(|error| {
        faults.add(format!("{} is not valid JSON: {error}", shown(&file.to_string_lossy())));
        nothing()
    });
    if !typed.is_object() {
        faults.add(format!("{}: must be {}, not {}", shown(&file.to_string_lossy()), kind(&nothing()), kind(&typed)));
    }
    sift("", typed, shape, faults).unwrap_or_else(nothing)
}

/// What is left of `typed` when all that differs in kind from the defaults is taken out and reported. A list whose
/// default has a group is a list of groups like that one; other lists are of text.
fn sift(key: &str, typed: Value, default: &Value, faults: &mut Faults) -> Option<Value> {
    match (typed, default) {
        (Value::Object(typed), Value::Object(default)) => {
            let mut good = Map::new();
            for (name, value) in typed {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                if let Some(default) = default.get(&name) {
                    good.extend(sift(&key, value, default, faults).map(|value| (name, value)));
                } else {
                    let known: Vec<&str> = default.keys().map(String::as_str).collect();
                    faults.unknown_option(&key, &instead(&name, &known));
                }
            }
            Some(Value::Object(good))
        }
        (Value::Array(items), Value::Array(default)) if let Some(default @ Value::Object(_)) = default.first() => {
            let nothing = || Value::Object(Map::new());
            // What cannot be used leaves an empty group: the others keep their numbers.
            let item = |(number, item)| sift(&format!("{key}.{number}"), item, default, faults).unwrap_or_else(nothing);
            Some((1..).zip(items).map(item).collect())
        }
        (Value::Array(mut items), Value::Array(_)) => {
            items.retain(|item| {
                if !item.is_string() {
                    faults.at(key, format_args!("every item must be text, not {}", kind(item)));
                }
                item.is_string()
            });
            Some(Value::Array(items))
        }
        (typed @ Value::String(_), Value::String(_)) | (typed @ Value::Bool(_), Value::Bool(_)) => Some(typed),
        (Value::Number(number), Value::Number(_)) if number.is_i64() => Some(Value::Number(number)),
        // The whole file is no object: that is reported by the caller, who knows its name.
        (_, _) if key.is_empty() => None,
        (typed, default) => {
            faults.at(key, format_args!("must be {}, not {}", kind(default), kind(&typed)));
            None
        }
    }
}

/// What a value is, in words. The value itself may be a secret.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing (null)",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_i64() => "a whole number",
        Value::Number(number) if number.is_u64() => "one that large",
        Value::Number(_) => "a fraction",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a group of options in braces",
    }
}
