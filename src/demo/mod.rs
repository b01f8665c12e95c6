//! A simulated home that speaks Home Assistant's own WebSocket protocol on loopback.
//!
//! The `demo` command runs the whole service against it, the tests give it faults, and the benchmark floods from it.
//! It is no Home Assistant: it knows the commands that this service uses, in the shapes of the real one, and answers
//! `unknown_command` to everything else.
//!
//! ```text
//! catalogue, values, past -> home -> recorder, statistics, registry, services -> protocol, scope -> session -> hub -> server, handle
//! ```
//!
//! Everything up to `session` is pure: no socket, and the time is an argument. The hub is the home with its clients
//! under one lock, the server gives each client a connection. Equal seeds give equal homes; the past is made up when
//! somebody asks for it, so a home of any size has one and none of it is kept.

pub mod catalogue;
pub mod commands;
pub mod flood;
pub mod handle;
pub mod home;
mod hub;
pub mod json;
pub mod knobs;
pub mod past;
pub mod protocol;
pub mod random;
pub mod recorder;
mod records;
pub mod registry;
pub mod scope;
pub mod server;
pub mod services;
pub mod session;
pub mod state;
pub mod statistics;
pub mod time;
pub mod trouble;
pub mod values;

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use self::handle::Handle;
use self::home::Home;
use self::knobs::Knobs;
use self::server::Simulator;
use crate::config::secret::Secret;
use crate::model::time::Timestamp;

/// What the `demo` command lets a user choose.
#[derive(Debug, Clone, PartialEq)]
pub struct Demo {
    pub entities: usize,
    pub events_per_second: f64,
    pub seed: u64,
}

impl Default for Demo {
    /// A home of 120 entities that says something twice a second: a busy flat.
    fn default() -> Self {
        Self { entities: 120, events_per_second: 2.0, seed: 1 }
    }
}

/// A simulated home with an address of its own, not yet running.
pub struct Prepared {
    pub simulator: Simulator,
    pub handle: Handle,
    pub address: SocketAddr,
    /// What a client must show. No secret: the home is made up and listens on loopback only.
    pub token: Secret,
}

impl Demo {
    /// Binds a free port on loopback.
    pub async fn prepare(&self, now: Timestamp) -> std::io::Result<Prepared> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let token = Secret::new("demo");
        let knobs = Knobs {
            token: token.clone(),
            events_per_second: self.events_per_second,
            act_every: Some(Duration::from_secs(15)),
            ..Knobs::default()
        };
        let (simulator, handle) = Simulator::new(listener, Home::new(self.seed, self.entities, now), knobs);
        Ok(Prepared { simulator, handle, address, token })
    }
}

impl Prepared {
    /// Where a client finds the API.
    #[must_use]
    pub fn url(&self) -> String {
        format!("ws://{}/api/websocket", self.address)
    }
}
