//! The options that environment variables give.
//!
//! The kind of an option's default decides what a text becomes. A variable that is ours by its name and names nothing is
//! reported, as an unknown option in the file is.

use std::path::Path;

use serde_json::{Map, Value};

use super::Machine;
use super::faults::{Faults, nearest, shown};
use super::place;

const PREFIX: &str = "HA_INGESTOR__";

/// What the environment says: `HA_INGESTOR__INFLUXDB__URL`, or `.._URL_FILE` with the name of a file that holds the value.
pub(super) fn read(shape: &Value, machine: &Machine<'_>, faults: &mut Faults) -> Value {
    let leaves = leaves(shape);
    let known = |name: &str| leaves.iter().any(|leaf| leaf.variable == name);
    let mut layer = Map::new();
    for leaf in &leaves {
        let in_file = format!("{}_FILE", leaf.variable);
        let direct = machine.environment.get(&leaf.variable);
        // An option may be called `.._file` itself one day; its own name counts first.
        let file = machine.environment.get(&in_file).filter(|_| !known(&in_file));
        let (variable, text) = match (direct, file) {
            (None, None) => continue,
            (Some(_), Some(_)) => {
                let problem = format!("{} is set as well: keep one of the two", leaf.variable);
                faults.at_variable(&in_file, &leaf.key, problem);
                continue;
            }
            (Some(text), None) => (&leaf.variable, Ok(text.clone())),
            (None, Some(path)) => (&in_file, read_value(Path::new(path), machine)),
        };
        faults.decided_by(&leaf.key, variable);
        match text.and_then(|text| convert(&text, leaf.default)) {
            Ok(value) => {
                let Some(section) = leaf.section else {
                    layer.insert(leaf.name.to_owned(), value);
                    continue;
                };
                let section = layer.entry(section).or_insert_with(|| Value::Object(Map::new()));
                section[leaf.name] = value;
            }
            Err(problem) => faults.at_variable(variable, &leaf.key, problem),
        }
    }
    report_unknown(&leaves, machine, faults);
    Value::Object(layer)
}

/// What one variable gives: a single option, `section.name`, or a whole list of groups, which has no section.
struct Leaf<'a> {
    section: Option<&'a str>,
    name: &'a str,
    key: String,
    variable: String,
    default: &'a Value,
}

fn leaves(shape: &Value) -> Vec<Leaf<'_>> {
    let mut leaves = Vec::new();
    for (section, options) in shape.as_object().expect("options are sections") {
        let Some(options) = options.as_object() else {
            let variable = format!("{PREFIX}{section}").to_uppercase();
            leaves.push(Leaf { section: None, name: section, key: section.clone(), variable, default: options });
            continue;
        };
        for (name, default) in options {
            leaves.push(Leaf {
                section: Some(section),
                name,
                key: format!("{section}.{name}"),
                variable: format!("{PREFIX}{section}__{name}").to_uppercase(),
                default,
            });
        }
    }
    leaves
}

/// A value from a file, such as a Docker secret. Editors end a file with a line break; it is not part of the value.
fn read_value(path: &Path, machine: &Machine<'_>) -> Result<String, String> {
    let text = (machine.read)(path).map_err(|error| {
        // What is not a full path may be the secret itself, given where the name of its file belongs.
        let file = if path.is_absolute() { shown(&path.to_string_lossy()) } else { "the file it names".to_owned() };
        format!("cannot read {file}: {error}")
    })?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

/// The text as the kind of value that the option has by default.
fn convert(text: &str, default: &Value) -> Result<Value, String> {
    // It stands where the bytes of a variable were no text.
    if text.contains(char::REPLACEMENT_CHARACTER) {
        return Err("is not valid UTF-8".to_owned());
    }
    match default {
        Value::Bool(_) => match text.trim().to_ascii_lowercase().parse::<bool>() {
            Ok(yes) => Ok(yes.into()),
            Err(_) => Err(format!("must be true or false, not `{}`", shown(text))),
        },
        Value::Number(_) => match text.trim().parse::<i64>() {
            Ok(number) => Ok(number.into()),
            Err(_) => Err(format!("must be a whole number, not `{}`", shown(text))),
        },
        Value::Array(_) if text.trim().is_empty() => Ok(Value::Array(Vec::new())),
        // Its items are groups, for which commas are not enough.
        Value::Array(items) if items.first().is_some_and(Value::is_object) => match serde_json::from_str(text) {
            Ok(list @ Value::Array(_)) => Ok(list),
            // The text is not shown: it may hold secrets.
            _ => Err(r#"must be a list in JSON, such as [{"url": "http://192.168.1.6:8086"}]"#.to_owned()),
        },
        Value::Array(_) => Ok(text.split(',').map(|item| Value::from(item.trim())).collect()),
        _ => Ok(text.into()),
    }
}

/// A variable that is ours by its name but names nothing. A single underscore where there should be two is the usual slip;
/// other names with a single one are not ours: Kubernetes sets `HA_INGESTOR_PORT` and the like for a service of our name.
fn report_unknown(leaves: &[Leaf<'_>], machine: &Machine<'_>, faults: &mut Faults) {
    let in_files: Vec<String> = leaves.iter().map(|leaf| format!("{}_FILE", leaf.variable)).collect();
    let mut known: Vec<&str> = leaves.iter().map(|leaf| leaf.variable.as_str()).collect();
    known.extend(in_files.iter().map(String::as_str));
    known.extend(place::VARIABLES);
    // What all names begin with would make any two of them alike.
    let tails: Vec<&str> = known.iter().map(|name| tail(name)).collect();
    for name in machine.environment.keys().filter(|name| !known.contains(&name.as_str())) {
        let slip = known.iter().copied().find(|known| letters(known) == letters(name));
        if slip.is_none() && !name.starts_with(PREFIX) {
            continue;
        }
        match slip.map(tail).or_else(|| nearest(tail(name), &tails)) {
            Some(meant) => faults.add(format!("unknown variable {}: did you mean HA_INGESTOR_{meant}?", shown(name))),
            None => faults.add(format!("unknown variable {}: it names no option", shown(name))),
        }
    }
}

fn tail(name: &str) -> &str {
    name.strip_prefix("HA_INGESTOR_").unwrap_or(name)
}

fn letters(name: &str) -> String {
    name.replace('_', "").to_uppercase()
}
