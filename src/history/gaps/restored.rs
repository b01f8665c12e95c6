//! Which rows are states that Home Assistant restored at its own start: as they were, with a new time.
//!
//! Pure. A state that is set anew and is the same has both of its times new; so has one of an integration that reports the
//! same value again. So only the minutes after a start count.

use std::collections::HashMap;
use std::sync::Arc;

use crate::history::recorder::rows::Row;
use crate::model::entity::EntityId;
use crate::model::time::Timestamp;
use crate::model::value::Attributes;

/// How long Home Assistant may take to restore everything.
const START_MICROS: i64 = 10 * 60 * 1_000_000;

#[derive(Debug, Default)]
pub struct Restored {
    /// When Home Assistant began. `None`: nothing is looked for.
    began: Option<Timestamp>,
    /// Those that a session has told of.
    told: Arc<HashMap<EntityId, Timestamp>>,
    before: HashMap<EntityId, (Arc<str>, Arc<Attributes>)>,
}

impl Restored {
    #[must_use]
    pub fn after(began: Option<Timestamp>, told: Arc<HashMap<EntityId, Timestamp>>) -> Self {
        Self { began, told, before: HashMap::new() }
    }

    /// Rows of one entity come oldest first.
    pub fn is_one(&mut self, entity: &EntityId, row: &Row) -> bool {
        let Some(began) = self.began else { return false };
        let now = (Arc::clone(&row.state), Arc::clone(&row.attributes));
        let before = self.before.insert(entity.clone(), now.clone());
        let since = row.last_updated.as_micros() - began.as_micros();
        let was_told = self.told.get(entity) == Some(&row.last_updated);
        was_told || (0..START_MICROS).contains(&since) && row.last_changed == row.last_updated && before == Some(now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Restored, START_MICROS};
    use crate::history::recorder::rows::Row;
    use crate::model::entity::EntityId;
    use crate::model::time::Timestamp;

    #[test]
    fn the_same_state_with_new_times_after_a_start_is_a_restored_one() {
        let entity = EntityId::parse("sensor.a").unwrap();
        let row = |state: &str, updated: i64, changed: i64| Row {
            state: state.into(),
            attributes: Arc::default(),
            last_updated: Timestamp::from_micros(updated),
            last_changed: Timestamp::from_micros(changed),
        };
        let mut restored = Restored::after(Some(Timestamp::from_micros(100)), Arc::default());
        let rows = [
            (row("1", 50, 50), false),
            (row("1", 60, 60), false),
            (row("1", 110, 110), true),
            (row("1", 120, 110), false),
            (row("2", 130, 130), false),
            (row("2", START_MICROS + 100, START_MICROS + 100), false),
        ];
        for (row, expected) in rows {
            assert_eq!(restored.is_one(&entity, &row), expected, "{row:?}");
        }
        assert!(!Restored::default().is_one(&entity, &row("1", 110, 110)));
    }
}
