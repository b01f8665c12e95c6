//! The words among states that Home Assistant's own `influxdb` integration knows a number for.

/// 1 or 0, if the text is one of those words, in exactly this case.
#[must_use]
pub fn number_of(state: &str) -> Option<f64> {
    match state {
        "on" | "locked" | "above_horizon" | "open" | "home" => Some(1.0),
        "off" | "unlocked" | "below_horizon" | "closed" | "not_home" => Some(0.0),
        _ => None,
    }
}
