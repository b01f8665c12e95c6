//! The files that the Supervisor and the program both read say the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ha_ingestor::config;
use ha_ingestor::config::options::{InfluxDb, Options};
use ha_ingestor::config::place::Flags;
use serde_json::{Value, json};

fn text(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn yaml(name: &str) -> Value {
    serde_yaml::from_str(&text(name)).unwrap_or_else(|err| panic!("{name}: {err}"))
}

/// `section.name` of everything in a tree of two levels, with what is there. A list of groups is told by its first, and what
/// holds no groups by its own name.
fn entries(tree: &Value) -> Vec<(String, &Value)> {
    let mut entries = Vec::new();
    for (section, group) in tree.as_object().unwrap() {
        let Some(fields) = group.get(0).unwrap_or(group).as_object() else {
            entries.push((section.clone(), group));
            continue;
        };
        entries.extend(fields.iter().map(|(name, entry)| (format!("{section}.{name}"), entry)));
    }
    entries.sort_by(|one, other| one.0.cmp(&other.0));
    entries
}

fn keys(tree: &Value) -> Vec<String> {
    entries(tree).into_iter().map(|(key, _)| key).collect()
}

/// All options with their defaults.
fn defaults() -> Value {
    serde_json::to_value(Options::default()).unwrap()
}

/// As `defaults`, with a mirror, so that its keys show.
fn defaults_with_a_mirror() -> Value {
    serde_json::to_value(Options { mirrors: vec![InfluxDb::default()], ..Options::default() }).unwrap()
}

#[test]
fn the_add_on_page_offers_what_the_program_honours_with_the_same_defaults() {
    let file = yaml("config.yaml");
    assert_eq!(file["options"], defaults());
    assert_eq!(keys(&file["schema"]), keys(&defaults_with_a_mirror()));
}

#[test]
fn a_mirror_is_offered_as_the_first_target_is_and_all_but_its_address_may_be_left_out() {
    let schema = &yaml("config.yaml")["schema"];
    let mut expected = schema["influxdb"].clone();
    for (name, kind) in expected.as_object_mut().unwrap() {
        if name != "url" {
            *kind = json!(format!("{}?", kind.as_str().unwrap()));
        }
    }
    assert_eq!(schema["mirrors"], json!([expected]));
}

/// What the program says about options of which only this one was typed.
fn faults(key: &str, typed: &Value) -> Vec<String> {
    let (section, name) = key.split_once('.').unwrap();
    let group = json!({ name: typed });
    let options = json!({ section: if section == "mirrors" { json!([group]) } else { group } });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("typed.json");
    fs::write(&file, options.to_string()).unwrap();
    let flags = Flags { options: Some(file), ..Flags::default() };
    config::load(&flags, []).map_or_else(|invalid| invalid.faults().to_vec(), |_| Vec::new())
}

#[test]
fn the_add_on_page_takes_the_numbers_and_choices_that_the_program_takes() {
    let file = yaml("config.yaml");
    let mut compared = 0;
    for (key, kind) in entries(&file["schema"]) {
        // Lists of text have no limits.
        let Some(kind) = kind.as_str() else { continue };
        let shown = key.replace("mirrors.", "mirrors.1.");
        let (kind, limits) = kind.trim_end_matches(['?', ')']).split_once('(').unwrap_or((kind, ""));
        match kind {
            "int" => {
                let (least, most) = limits.split_once(',').unwrap();
                let (least, most): (i64, i64) = (least.parse().unwrap(), most.parse().unwrap());
                for outside in [least - 1, most + 1] {
                    let expected = format!("{shown}: must be from {least} to {most}, not {outside}");
                    assert_eq!(faults(&key, &json!(outside)).first(), Some(&expected));
                }
            }
            "list" => {
                let faults = faults(&key, &json!("?"));
                let known =
                    faults[0].strip_prefix(&format!("{shown}: `?` is no choice: it can be ")).expect(&faults[0]);
                let (mut known, mut offered): (Vec<_>, Vec<_>) =
                    (known.split(", ").collect(), limits.split('|').collect());
                known.sort_unstable();
                offered.sort_unstable();
                assert_eq!(offered, known, "{key}");
            }
            _ => continue,
        }
        compared += 1;
    }
    assert!(compared > 10, "{compared} limits are not enough to say anything");
}

/// The rows of the tables in DOCS.md: `| `section.name` | `default` | `example` | what it does |`.
#[test]
fn the_documentation_page_has_every_option_with_its_default_and_an_example() {
    let file = yaml("config.yaml");
    let expected: BTreeMap<_, _> = entries(&file["options"])
        .into_iter()
        .filter(|(key, _)| key != "mirrors")
        .map(|(key, is)| (key, is.clone()))
        .collect();
    let mut found = BTreeMap::new();
    for row in text("DOCS.md").lines() {
        let cells: Vec<_> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let [key, default, example, _] = cells[..] else { continue };
        let Some(key) = key.strip_prefix('`').and_then(|key| key.strip_suffix('`')) else { continue };
        let value = |cell: &str| -> Value { serde_yaml::from_str(cell.trim_matches('`')).unwrap() };
        // A certificate is read at once, and the one of the example is nowhere.
        if key != "events" && !key.ends_with(".ca_certificate") {
            // The Supervisor writes the secret itself into the file.
            let typed = if example.contains("!secret ") { json!("the-secret") } else { value(example) };
            let complaints: Vec<_> = faults(key, &typed).into_iter().filter(|fault| fault.starts_with(key)).collect();
            assert!(complaints.is_empty(), "{key}: {complaints:?}");
        }
        found.insert(key.to_owned(), value(default));
    }
    assert_eq!(found, expected);
}

/// Every file that shows how to set options by the environment.
#[test]
fn the_variables_that_documents_and_deployments_name_are_options() {
    let known = keys(&defaults_with_a_mirror());
    let mut found = 0;
    for name in ["README.md", "DOCS.md", "docs/deployment.md", "addon/compose.yaml", "addon/kubernetes.yaml"] {
        for rest in text(name).split("HA_INGESTOR__").skip(1) {
            let variable = rest.split(|char: char| !(char.is_ascii_uppercase() || char == '_')).next().unwrap();
            let key = variable.trim_end_matches("_FILE").to_lowercase().replace("__", ".");
            assert!(known.contains(&key), "{name}: HA_INGESTOR__{variable}");
            found += 1;
        }
    }
    assert!(found > 15, "{found} variables are not enough to say anything");
}

/// Strings, which an older Supervisor skips if it does not know them; of a mapping it would refuse the whole app.
#[test]
fn the_add_on_reaches_the_folders_that_its_texts_name() {
    assert_eq!(yaml("config.yaml")["map"], json!(["app_config", "ssl", "share:rw"]));
}

#[test]
fn a_backup_is_made_while_the_service_runs_and_leaves_out_what_changes_meanwhile() {
    let file = yaml("config.yaml");
    let left_out = ["*/spool", "*/dead-letters", "*/log", "*.new", "*/mqtt-session.json"];
    // Hot is what it is unless something else is said, and the app linter refuses what need not be said.
    assert_eq!((&file["backup"], &file["backup_exclude"]), (&Value::Null, &json!(left_out)));
}

const LANGUAGES: [&str; 10] = ["en", "de", "nl", "fr", "es", "it", "pl", "sv", "pt-BR", "zh-Hans"];

#[test]
fn every_option_has_a_name_and_a_description_in_every_language() {
    for language in LANGUAGES {
        let file = yaml(&format!("translations/{language}.yaml"));
        let sections = file["configuration"].as_object().unwrap();
        let fields: serde_json::Map<_, _> =
            sections.iter().map(|(section, entry)| (section.clone(), entry["fields"].clone())).collect();
        assert_eq!(keys(&fields.into()), keys(&defaults_with_a_mirror()), "{language}");
        assert_eq!(keys(&file["network"]), keys(&yaml("config.yaml")["ports"]), "{language}");
        for (section, entry) in sections {
            let fields = entry["fields"].as_object();
            for (name, entry) in fields.into_iter().flatten().chain([(section, entry)]) {
                for part in ["name", "description"] {
                    let text = entry[part].as_str().unwrap_or_default();
                    assert!(!text.is_empty(), "{language}: {section}.{name} has no {part}");
                }
            }
        }
    }
}

/// The Supervisor drops a file that it cannot read, and the frontend one whose language it does not know.
#[test]
fn there_is_no_translation_but_those_that_are_compared() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("translations");
    let mut found: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let mut known = LANGUAGES.map(|language| format!("{language}.yaml"));
    found.sort();
    known.sort();
    assert_eq!(found, known);
}

/// Names, numbers, addresses, and the choices of the option itself.
#[test]
fn a_translation_keeps_what_is_typed_as_it_stands() {
    let (english, app) = (descriptions("en"), yaml("config.yaml"));
    let choices: BTreeMap<_, _> = entries(&app["schema"])
        .into_iter()
        .filter_map(|(key, kind)| Some((key, kind.as_str()?.trim_end_matches(['?', ')']).strip_prefix("list(")?)))
        .collect();
    for language in &LANGUAGES[1..] {
        let translated = descriptions(language);
        for (key, text) in &english {
            let choices = choices.get(key).copied().unwrap_or_default();
            for word in text.split([' ', ',']).map(|word| word.trim_end_matches(['.', ';', ':'])) {
                let is_typed = word.contains(['_', '=', '/', '*'])
                    || word.chars().any(|char| char.is_ascii_digit())
                    || choices.split('|').any(|choice| choice == word);
                let there = &translated[key];
                assert!(!is_typed || there.contains(word), "{language}: {key} lacks `{word}`: {there}");
            }
        }
    }
}

/// The descriptions of a language by `section.name`.
fn descriptions(language: &str) -> BTreeMap<String, String> {
    let file = yaml(&format!("translations/{language}.yaml"));
    let mut texts = BTreeMap::new();
    for (section, entry) in file["configuration"].as_object().unwrap() {
        let text = |entry: &Value| entry["description"].as_str().unwrap().to_owned();
        texts.insert(section.clone(), text(entry));
        for (name, field) in entry["fields"].as_object().into_iter().flatten() {
            texts.insert(format!("{section}.{name}"), text(field));
        }
    }
    texts
}

#[test]
fn the_versions_agree() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(yaml("config.yaml")["version"], json!(version));
    let changes = text("CHANGELOG.md");
    let newest = changes.lines().find(|line| line.starts_with("## ")).expect("the changelog has a heading");
    assert!(newest.contains(version), "the newest heading of CHANGELOG.md is {newest:?}, the version is {version}");
}

#[test]
fn both_architectures_are_built_from_the_base_that_the_dockerfile_names() {
    let bases = &yaml("build.yaml")["build_from"];
    let arch: Vec<_> = bases.as_object().unwrap().keys().map(|key| json!(key)).collect();
    assert_eq!(yaml("config.yaml")["arch"], json!(arch));
    let dockerfile = text("Dockerfile");
    let base = dockerfile.lines().find_map(|line| line.strip_prefix("ARG BUILD_FROM=")).unwrap();
    assert!(bases.as_object().unwrap().values().all(|each| each == base), "{bases} is not {base}");
    // One Debian and one Rust for what is tested and what ships.
    let debian = base.rsplit_once(':').unwrap().1;
    let rust = format!("library/rust:{}-slim-{debian} ", env!("CARGO_PKG_RUST_VERSION"));
    assert!(dockerfile.contains(&rust), "the Dockerfile lacks {rust:?}");
}

/// The Supervisor takes the only line that begins with `profile` for the name to replace, and refuses
/// to install an app with none or two.
#[test]
fn the_apparmor_profile_has_one_name() {
    let profile = text("apparmor.txt");
    let names: Vec<_> = profile.lines().filter(|line| line.starts_with("profile ")).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    let slug = yaml("config.yaml")["slug"].as_str().unwrap().to_owned();
    assert!(names[0].starts_with(&format!("profile {slug} ")), "{names:?}");
}

#[test]
fn icon_and_logo_have_the_sizes_that_the_app_store_shows() {
    for (name, width, height) in [("icon.png", 128, 128), ("logo.png", 250, 100)] {
        let png = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
        let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
        assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n", "{name}");
        assert_eq!((number(16), number(20)), (width, height), "{name}");
    }
}
