//! How an event of Home Assistant's bus becomes a point of the measurement `ha_event`.

use crate::model::event::Fired;
use crate::model::point::Point;

/// Makes `point`, sorted, tell of the event, and returns how many numbers were left out because they are not finite.
/// `tags` are those that every point gets.
pub fn shape(_fired: &Fired, _tags: &[(String, String)], _point: &mut Point) -> u32 {
    0
}
