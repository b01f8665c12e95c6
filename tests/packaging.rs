//! The files that the Supervisor and the program both read say the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

fn yaml(name: &str) -> Value {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    serde_yaml::from_str(&text).unwrap_or_else(|err| panic!("{name}: {err}"))
}

/// `section.name` of everything in a tree of two levels.
fn keys(tree: &Value) -> Vec<String> {
    let sections = tree.as_object().unwrap().iter();
    let mut keys: Vec<_> = sections
        .flat_map(|(section, entries)| entries.as_object().unwrap().keys().map(move |name| format!("{section}.{name}")))
        .collect();
    keys.sort();
    keys
}

/// What the add-on page offers: everything but what the Supervisor gives by itself.
fn offered() -> Value {
    let mut options = serde_json::to_value(ha_ingestor::config::options::Options::default()).unwrap();
    options.as_object_mut().unwrap().remove("home_assistant").expect("outside the Supervisor it is needed");
    options
}

#[test]
fn the_add_on_page_offers_what_the_program_honours_with_the_same_defaults() {
    let file = yaml("config.yaml");
    assert_eq!(file["options"], offered());
    assert_eq!(keys(&file["schema"]), keys(&offered()));
}

#[test]
fn every_option_has_a_name_and_a_description() {
    let file = yaml("translations/en.yaml");
    let told: Value = file["configuration"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(section, entry)| (section.clone(), entry["fields"].clone()))
        .collect::<serde_json::Map<_, _>>()
        .into();
    assert_eq!(keys(&told), keys(&offered()));
    for (section, entry) in file["configuration"].as_object().unwrap() {
        let fields = entry["fields"].as_object().unwrap();
        for (name, entry) in fields.iter().chain([(section, entry)]) {
            for part in ["name", "description"] {
                let text = entry[part].as_str().unwrap_or_default();
                assert!(!text.is_empty(), "{section}.{name} has no {part}");
            }
        }
    }
}

#[test]
fn the_versions_agree() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(yaml("config.yaml")["version"], json!(version));
    let changes = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("CHANGELOG.md")).unwrap();
    let newest = changes.lines().find(|line| line.starts_with("## ")).expect("the changelog has a heading");
    assert!(newest.contains(version), "the newest heading of CHANGELOG.md is {newest:?}, the version is {version}");
}

#[test]
fn both_architectures_are_built_from_the_same_base() {
    let bases = &yaml("build.yaml")["build_from"];
    let arch: Vec<_> = bases.as_object().unwrap().keys().map(|key| json!(key)).collect();
    assert_eq!(yaml("config.yaml")["arch"], json!(arch));
    assert_eq!(bases["aarch64"], bases["amd64"]);
}
