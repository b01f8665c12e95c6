//! What a caller can turn while the simulated home runs, and the faults it can have.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::secret::Secret;

/// How the simulated Home Assistant behaves. Everything can be changed while it runs.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Knobs {
    /// What a client must show.
    pub token: Secret,
    /// Changes a second, evenly. Zero: none by itself.
    pub events_per_second: f64,
    /// An automation, a script or a service each time this has passed.
    pub act_every: Option<Duration>,
    /// Several messages in one frame, for clients that say that they read them.
    pub coalesce: bool,
    /// Closes every connection each time this has passed.
    pub disconnect_every: Option<Duration>,
    /// Reads nothing and sends nothing, as behind a network that died. What happens meanwhile is in history only.
    pub silent: bool,
    /// No token is good enough.
    pub refuse_auth: bool,
    /// Answers requests as the Supervisor's proxy does while Home Assistant starts: 502, and no WebSocket.
    pub answer_502: bool,
    /// Closes a connection with 4096 messages waiting, as Home Assistant does.
    pub cut_slow_clients: bool,
    /// The last so many changes are kept for [`super::handle::Handle::ledger`].
    pub ledger: usize,
    /// By so much its clock is ahead of this machine's; below zero it is behind.
    pub clock_ahead_micros: i64,
    /// Full speed, once, for the first client with a subscription of entities.
    pub flood: Option<FloodKnobs>,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            token: Secret::new("demo"),
            events_per_second: 0.0,
            act_every: None,
            coalesce: true,
            disconnect_every: None,
            silent: false,
            refuse_auth: false,
            answer_502: false,
            cut_slow_clients: true,
            ledger: 0,
            clock_ahead_micros: 0,
            flood: None,
        }
    }
}

#[derive(Debug, Clone)]
pub struct FloodKnobs {
    pub events: u64,
    /// Messages in a frame, for a client that reads several.
    pub per_frame: usize,
    pub window: Option<Window>,
}

/// Never more than so many events ahead of whoever confirms them.
#[derive(Debug, Clone)]
pub struct Window {
    pub events: u64,
    /// Counted up by the far end, from any beginning.
    pub confirmed: Arc<AtomicU64>,
}

impl Window {
    #[must_use]
    pub fn confirmed(&self) -> u64 {
        self.confirmed.load(Ordering::Acquire)
    }
}
