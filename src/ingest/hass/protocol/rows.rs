//! The lists of Home Assistant's registries.
//!
//! A list has megabytes in a big home, of which a few names matter: rows borrow them from the frame, and what is not
//! asked for is passed over.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::model::json::Text;

/// What Home Assistant keeps a list of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Registry {
    Entities,
    Devices,
    Areas,
    Floors,
    Labels,
}

impl Registry {
    pub const ALL: [Self; 5] = [Self::Entities, Self::Devices, Self::Areas, Self::Floors, Self::Labels];

    /// As it stands in commands, `config/NAME_registry/list`, and in events, `NAME_registry_updated`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Entities => "entity",
            Self::Devices => "device",
            Self::Areas => "area",
            Self::Floors => "floor",
            Self::Labels => "label",
        }
    }
}

/// One row of any of the lists: each has some of these. Which keys there are differs between versions.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(in crate::ingest::hass) struct Row<'a> {
    /// Of a device.
    #[serde(borrow)]
    pub(in crate::ingest::hass) id: Option<Text<'a>>,
    pub(in crate::ingest::hass) entity_id: Option<Text<'a>>,
    /// Of an area, or where an entity or a device is; so are the next two.
    pub(in crate::ingest::hass) area_id: Option<Text<'a>>,
    pub(in crate::ingest::hass) floor_id: Option<Text<'a>>,
    pub(in crate::ingest::hass) device_id: Option<Text<'a>>,
    pub(in crate::ingest::hass) label_id: Option<Text<'a>>,
    /// The device that this one is a part of.
    pub(in crate::ingest::hass) parent_device_id: Option<Text<'a>>,
    pub(in crate::ingest::hass) name: Option<Text<'a>>,
    pub(in crate::ingest::hass) name_by_user: Option<Text<'a>>,
    pub(in crate::ingest::hass) labels: Option<Vec<Text<'a>>>,
    pub(in crate::ingest::hass) platform: Option<Text<'a>>,
    pub(in crate::ingest::hass) entity_category: Option<Text<'a>>,
    pub(in crate::ingest::hass) disabled_by: Option<Text<'a>>,
}

#[derive(Debug, Default, PartialEq)]
pub(in crate::ingest::hass) struct Rows<'a> {
    pub(in crate::ingest::hass) rows: Vec<Row<'a>>,
    /// So many more are no rows.
    pub(in crate::ingest::hass) unreadable: u64,
}

/// Reads a list. What is none has no rows, and is one thing that cannot be read.
#[must_use]
pub(in crate::ingest::hass) fn read_rows(json: &str) -> Rows<'_> {
    if let Ok(rows) = serde_json::from_str(json) {
        return Rows { rows, unreadable: 0 };
    }
    let Ok(pieces) = serde_json::from_str::<Vec<&RawValue>>(json) else {
        return Rows { rows: Vec::new(), unreadable: 1 };
    };
    let mut read = Rows::default();
    for piece in pieces {
        match serde_json::from_str(piece.get()) {
            Ok(row) => read.rows.push(row),
            Err(_) => read.unreadable += 1,
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::read_rows;

    #[test]
    fn a_row_that_is_none_costs_that_row() {
        for (json, rows, unreadable) in [
            ("[]", 0, 0),
            (r#"[{"entity_id":"a.b","new":{"x":[]},"labels":["l"],"area_id":null}]"#, 1, 0),
            (r#"[{"entity_id":"a.b"},7,{"entity_id":7},{"labels":{}},{"name":"\ud800"},{"id":"x"}]"#, 2, 4),
            ("{}", 0, 1),
            ("null", 0, 1),
            ("", 0, 1),
        ] {
            let read = read_rows(json);
            assert_eq!((read.rows.len(), read.unreadable), (rows, unreadable), "{json}");
        }
    }
}
