//! The five registries and the configuration of the simulated home, as JSON.

use super::catalogue::{FLOORS, LABELS, ROOMS, slug};
use super::home::{Device, Entity, Home};
use super::json::{push, push_float, push_joined, push_optional, push_text};
use super::protocol::VERSION;

/// The one integration that everything in the home belongs to.
const CONFIG_ENTRY: &str = "01M84HJK83GQQ6D9F6MM5FVG1Z";

/// The result of `config/NAME_registry/list`. `None` for a name that is no registry.
#[must_use]
pub fn list(home: &Home, name: &str) -> Option<String> {
    let mut out = String::new();
    let created = home.began();
    match name {
        "entity" => {
            let here = home.entities.iter().filter(|entity| home.state(&entity.id).is_some());
            push_joined(&mut out, ('[', ']'), here, |out, entity| push_entity(out, home, entity));
        }
        "device" => push_joined(&mut out, ('[', ']'), home.devices.iter(), |out, device| {
            push_device(out, device, created);
        }),
        "area" => push_joined(&mut out, ('[', ']'), ROOMS.iter(), |out, (name, floor)| {
            push_texts(out, "{\"aliases\":[],", &[("area_id", Some(&slug(name))), ("floor_id", Some(&slug(floor)))]);
            out.push_str(",\"humidity_entity_id\":null,\"icon\":null,\"labels\":[],");
            push_texts(out, "", &[("name", Some(name))]);
            out.push_str(",\"picture\":null,\"temperature_entity_id\":null");
            push_times(out, created, "}");
        }),
        "floor" => push_joined(&mut out, ('[', ']'), FLOORS.iter(), |out, (name, level)| {
            out.push_str("{\"aliases\":[],\"created_at\":");
            push_float(out, created);
            push_texts(out, ",", &[("floor_id", Some(&slug(name))), ("icon", None)]);
            push(out, format_args!(",\"level\":{level},"));
            push_texts(out, "", &[("name", Some(name))]);
            out.push_str(",\"modified_at\":");
            push_float(out, created);
            out.push('}');
        }),
        "label" => push_joined(&mut out, ('[', ']'), LABELS.iter(), |out, name| {
            out.push_str("{\"color\":\"blue\",\"created_at\":");
            push_float(out, created);
            let texts =
                [("description", None), ("icon", None), ("label_id", Some(&*slug(name))), ("name", Some(*name))];
            push_texts(out, ",", &texts);
            out.push_str(",\"modified_at\":");
            push_float(out, created);
            out.push('}');
        }),
        _ => return None,
    }
    Some(out)
}

fn push_entity(out: &mut String, home: &Home, entity: &Entity) {
    let device = entity.device.map(|place| home.devices[place].id.as_str());
    push_texts(out, "{", &[("area_id", entity.area_id.as_deref())]);
    out.push_str(",\"categories\":{},");
    push_texts(out, "", &[("config_entry_id", Some(CONFIG_ENTRY)), ("config_subentry_id", None)]);
    out.push_str(",\"created_at\":");
    push_float(out, home.began());
    let diagnostic = (entity.kind == super::catalogue::Kind::Battery).then_some("diagnostic");
    push_texts(
        out,
        ",",
        &[
            ("device_id", device),
            ("disabled_by", None),
            ("entity_category", diagnostic),
            ("entity_id", Some(&entity.id)),
        ],
    );
    push(out, format_args!(",\"has_entity_name\":{},", device.is_some()));
    push_texts(out, "", &[("hidden_by", None), ("icon", None), ("id", Some(&entity.registry_id))]);
    out.push_str(",\"labels\":[],\"modified_at\":");
    push_float(out, home.began());
    push_texts(out, ",", &[("name", None)]);
    out.push_str(",\"options\":{\"conversation\":{\"should_expose\":false}},");
    push_texts(
        out,
        "",
        &[
            ("original_name", Some(entity.kind.name())),
            ("platform", Some("demo")),
            ("translation_key", None),
            ("unique_id", Some(&entity.registry_id)),
        ],
    );
    out.push('}');
}

fn push_device(out: &mut String, device: &Device, created: f64) {
    push_texts(out, "{", &[("area_id", device.area_id.as_deref()), ("configuration_url", None)]);
    push(
        out,
        format_args!(
            ",\"config_entries\":[\"{CONFIG_ENTRY}\"],\"config_entries_subentries\":{{\"{CONFIG_ENTRY}\":[null]}},\
         \"connections\":[],\"created_at\":"
        ),
    );
    push_float(out, created);
    push_texts(
        out,
        ",",
        &[("disabled_by", None), ("entry_type", None), ("hw_version", None), ("id", Some(&device.id))],
    );
    push(out, format_args!(",\"identifiers\":[[\"demo\",\"{}\"]],\"labels\":", device.serial_number));
    push_joined(out, ('[', ']'), device.model.label.iter(), |out, label| push_text(out, label));
    push_texts(
        out,
        ",",
        &[("manufacturer", Some(device.model.manufacturer)), ("model", Some(device.model.name)), ("model_id", None)],
    );
    out.push_str(",\"modified_at\":");
    push_float(out, created);
    push_texts(
        out,
        ",",
        &[
            ("name_by_user", None),
            ("name", Some(&device.name)),
            ("primary_config_entry", Some(CONFIG_ENTRY)),
            ("serial_number", Some(&device.serial_number)),
            ("sw_version", Some("1.2.0")),
            ("via_device_id", None),
        ],
    );
    out.push('}');
}

fn push_texts(out: &mut String, before: &str, pairs: &[(&str, Option<&str>)]) {
    out.push_str(before);
    for (at, (name, text)) in pairs.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_text(out, name);
        out.push(':');
        push_optional(out, *text);
    }
}

fn push_times(out: &mut String, created: f64, after: &str) {
    for name in [",\"created_at\":", ",\"modified_at\":"] {
        out.push_str(name);
        push_float(out, created);
    }
    out.push_str(after);
}

/// The result of `get_config`.
#[must_use]
pub fn core_config(state: &str) -> String {
    format!(
        "{{\"allowlist_external_dirs\":[],\"allowlist_external_urls\":[],\"components\":[\"api\",\"history\",\"recorder\",\
         \"sensor\",\"websocket_api\"],\"config_dir\":\"/config\",\"config_source\":\"storage\",\"country\":\"NL\",\
         \"currency\":\"EUR\",\"debug\":false,\"elevation\":5,\"external_url\":null,\"internal_url\":null,\
         \"language\":\"en\",\"latitude\":52.1,\"location_name\":\"Simulated home\",\"longitude\":5.12,\"radius\":100,\
         \"recovery_mode\":false,\"safe_mode\":false,\"state\":\"{state}\",\"time_zone\":\"UTC\",\"unit_system\":{{\
         \"length\":\"km\",\"accumulated_precipitation\":\"mm\",\"area\":\"m²\",\"mass\":\"g\",\"pressure\":\"Pa\",\
         \"temperature\":\"°C\",\"volume\":\"L\",\"wind_speed\":\"m/s\"}},\"version\":\"{VERSION}\",\
         \"whitelist_external_dirs\":[]}}"
    )
}
