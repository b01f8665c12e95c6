//! What stands in the simulated home: rooms, and the devices in them with their entities.

/// A kind of entity. It decides the domain, the name and (in `values`) what the entity reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Temperature,
    Humidity,
    Battery,
    Illuminance,
    Motion,
    Door,
    Switch,
    Power,
    Energy,
    Voltage,
    Light,
    Climate,
    Valve,
    Cover,
    MediaPlayer,
    Tracker,
    Weather,
    Wind,
    Pressure,
    Rain,
    Note,
    Target,
    Firmware,
    People,
    LastSeen,
    Programme,
    /// Set from outside; it never changes by itself.
    Foreign,
}

impl Kind {
    #[must_use]
    pub fn domain(self) -> &'static str {
        match self {
            Self::Motion | Self::Door => "binary_sensor",
            Self::Switch => "switch",
            Self::Light => "light",
            Self::Climate => "climate",
            Self::Cover => "cover",
            Self::MediaPlayer => "media_player",
            Self::Tracker => "device_tracker",
            Self::Weather => "weather",
            Self::Note => "input_text",
            Self::Target => "input_number",
            Self::Firmware => "update",
            _ => "sensor",
        }
    }

    /// What follows the room in the entity's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Temperature => "Temperature",
            Self::Humidity => "Humidity",
            Self::Battery => "Battery",
            Self::Illuminance => "Illuminance",
            Self::Motion => "Motion",
            Self::Door => "Door",
            Self::Switch => "Plug",
            Self::Power => "Power",
            Self::Energy => "Energy",
            Self::Voltage => "Voltage",
            Self::Light => "Light",
            Self::Climate => "Thermostat",
            Self::Valve => "Valve",
            Self::Cover => "Shutter",
            Self::MediaPlayer => "Speaker",
            Self::Tracker => "Phone",
            Self::Weather => "Weather",
            Self::Wind => "Wind",
            Self::Pressure => "Pressure",
            Self::Rain => "Rain",
            Self::Note => "Note",
            Self::Target => "Target",
            Self::Firmware => "Firmware",
            Self::People => "People",
            Self::LastSeen => "Last seen",
            Self::Programme => "Programme",
            Self::Foreign => "Foreign",
        }
    }
}

/// A device as a shop sells it: what it is, and the entities that it brings.
#[derive(Debug)]
pub struct Model {
    pub name: &'static str,
    pub manufacturer: &'static str,
    pub kinds: &'static [Kind],
    pub label: Option<&'static str>,
    /// How many of these there are in about a hundred entities.
    pub share: usize,
    /// Stands outside, or nowhere in particular.
    pub roomless: bool,
}

/// The order is that of a small home: the first entities are of many kinds.
///
/// The shares give about 65 % sensors, 11 % binary sensors, 7 % lights, 6 % switches and 4 % thermostats, the mix of
/// real installations.
pub const MODELS: &[Model] = &[
    Model {
        name: "Climate sensor",
        manufacturer: "Aerona",
        kinds: &[Kind::Temperature, Kind::Humidity, Kind::Battery],
        label: Some("battery"),
        share: 9,
        roomless: false,
    },
    Model {
        name: "Motion sensor",
        manufacturer: "Aerona",
        kinds: &[Kind::Motion, Kind::Illuminance, Kind::Battery],
        label: Some("battery"),
        share: 7,
        roomless: false,
    },
    Model {
        name: "Smart plug",
        manufacturer: "Volt & Söhne",
        kinds: &[Kind::Switch, Kind::Power, Kind::Energy, Kind::Voltage],
        label: Some("energy"),
        share: 6,
        roomless: false,
    },
    Model {
        name: "Ceiling light",
        manufacturer: "Lumen, Inc.",
        kinds: &[Kind::Light],
        label: None,
        share: 7,
        roomless: false,
    },
    Model {
        name: "Radiator valve",
        manufacturer: "Thermé",
        kinds: &[Kind::Climate, Kind::Valve],
        label: Some("heating"),
        share: 4,
        roomless: false,
    },
    Model {
        name: "Door contact",
        manufacturer: "Aerona",
        kinds: &[Kind::Door, Kind::Battery],
        label: Some("battery"),
        share: 4,
        roomless: false,
    },
    Model {
        name: "Weather station",
        manufacturer: "Nimbus",
        kinds: &[Kind::Weather, Kind::Temperature, Kind::Wind, Kind::Pressure, Kind::Rain],
        label: None,
        share: 1,
        roomless: true,
    },
    Model {
        name: "Phone",
        manufacturer: "Pear",
        kinds: &[Kind::Tracker, Kind::Battery, Kind::LastSeen],
        label: None,
        share: 1,
        roomless: true,
    },
    Model {
        name: "Speaker",
        manufacturer: "Klang",
        kinds: &[Kind::MediaPlayer],
        label: None,
        share: 1,
        roomless: false,
    },
    Model {
        name: "Washing machine",
        manufacturer: "Spin",
        kinds: &[Kind::Programme, Kind::Power, Kind::Energy],
        label: Some("energy"),
        share: 1,
        roomless: false,
    },
    Model {
        name: "Shutter",
        manufacturer: "Volt & Söhne",
        kinds: &[Kind::Cover],
        label: None,
        share: 2,
        roomless: false,
    },
    Model {
        name: "Home hub",
        manufacturer: "Example \"Labs\"",
        kinds: &[Kind::Note, Kind::Target, Kind::Firmware, Kind::People],
        label: Some("critical"),
        share: 1,
        roomless: true,
    },
];

/// Name and floor.
pub const ROOMS: &[(&str, &str)] = &[
    ("Living room", "Ground floor"),
    ("Kitchen", "Ground floor"),
    ("Gäste-WC", "Ground floor"),
    ("Bedroom", "First floor"),
    ("Kids' room", "First floor"),
    ("Bathroom", "First floor"),
    ("Office, 2nd desk", "First floor"),
    ("Cellar", "Basement"),
    ("Garage", "Basement"),
];

/// Name and level.
pub const FLOORS: &[(&str, i64)] = &[("Basement", -1), ("Ground floor", 0), ("First floor", 1)];

pub const LABELS: &[&str] = &["Battery", "Energy", "Heating", "Critical"];

/// A name as Home Assistant makes an id of it: ASCII letters and digits, the rest as single underscores.
#[must_use]
pub fn slug(name: &str) -> String {
    let mut slug = String::with_capacity(name.len());
    for letter in name.chars() {
        match letter.to_ascii_lowercase() {
            'ä' => slug.push('a'),
            'ö' => slug.push('o'),
            '\'' => {}
            plain if plain.is_ascii_alphanumeric() => slug.push(plain),
            _ if slug.ends_with('_') || slug.is_empty() => {}
            _ => slug.push('_'),
        }
    }
    slug.trim_end_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::slug;

    #[test]
    fn a_slug_holds_letters_digits_and_single_underscores() {
        // Expected values: python-slugify as Home Assistant 2025.4.4 calls it.
        for (name, expected) in
            [("Gäste-WC", "gaste_wc"), ("Kids' room", "kids_room"), ("Office, 2nd desk", "office_2nd_desk")]
        {
            assert_eq!(slug(name), expected);
        }
    }
}
