//! What the recorder does not keep, put back where a point would be another one without it.
//!
//! Home Assistant's recorder leaves out attributes that each integration names, and all attributes of a state if their
//! JSON has more than 16,384 bytes. Fields that are missing from a point do no harm: a point that is written again keeps
//! those that it had. A missing unit or tag does: the point would be in another measurement or series. So these are taken
//! from the state of this moment, which is the best that anybody knows.

use std::sync::Arc;

use crate::model::value::Attributes;

/// What decides about the measurement, and what rules ask for.
const DECISIVE: [&str; 3] = ["unit_of_measurement", "device_class", "friendly_name"];

/// The attributes of a row with what the recorder left out of them. `present`: those that the entity has now; `tags`: the
/// names of attributes that are tags.
#[must_use]
pub fn put_back(recorded: &Arc<Attributes>, present: Option<&Attributes>, tags: &[String]) -> Arc<Attributes> {
    let Some(present) = present else { return Arc::clone(recorded) };
    // Few entities have no attribute at all: it is because there were too many.
    let decisive = DECISIVE.into_iter().filter(|_| recorded.is_empty());
    let wanted = decisive.chain(tags.iter().map(String::as_str)).filter(|name| recorded.get(name).is_none());
    let missing: Vec<_> = wanted.filter_map(|name| Some((name, present.get(name)?))).collect();
    if missing.is_empty() {
        return Arc::clone(recorded);
    }
    let mut whole = Attributes::clone(recorded);
    for (name, value) in missing {
        whole.set(name.into(), value.clone());
    }
    whole.into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::put_back;
    use crate::model::value::{Attributes, Value};

    fn attributes(pairs: &[(&str, i64)]) -> Attributes {
        pairs.iter().map(|(name, value)| ((*name).into(), Value::Int(*value))).collect()
    }

    #[test]
    fn what_decides_where_a_point_is_comes_from_the_present_if_it_is_missing() {
        let present = attributes(&[("unit_of_measurement", 1), ("options", 2), ("brightness", 3)]);
        let tags = ["options".to_owned(), "gone".to_owned()];
        for (recorded, expected) in [
            (attributes(&[]), attributes(&[("unit_of_measurement", 1), ("options", 2)])),
            (attributes(&[("k", 9)]), attributes(&[("k", 9), ("options", 2)])),
            (attributes(&[("options", 9)]), attributes(&[("options", 9)])),
        ] {
            let recorded = Arc::new(recorded);
            assert_eq!(*put_back(&recorded, Some(&present), &tags), expected, "{recorded:?}");
            assert!(Arc::ptr_eq(&put_back(&recorded, None, &tags), &recorded));
        }
    }
}
