//! A service as a process, between the simulated home and what stands in for a database, on a real disk.

pub(crate) mod database;
pub(crate) mod service;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ha_ingestor::demo::handle::Handle;
use ha_ingestor::demo::home::Home;
use ha_ingestor::demo::knobs::{FloodKnobs, Knobs, Window};
use ha_ingestor::demo::server::Simulator;
use ha_ingestor::runtime::clock;
use ha_ingestor::runtime::group::{Group, shut_down};
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::time::{interval, sleep};

use self::database::{Database, Mood};
use self::service::{Service, data_of};

/// What a flood of a given pace is checked against the clock.
const BEAT_MS: u64 = 10;

/// All that is around a service. It outlives the service, which may be started in it again.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) handle: Handle,
    pub(crate) database: Database,
    home: SocketAddr,
    group: Group,
}

impl World {
    pub(crate) async fn new(entities: usize, mood: Mood) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let home = listener.local_addr()?;
        let knobs = Knobs { cut_slow_clients: false, ..Knobs::default() };
        let (simulator, handle) = Simulator::new(listener, Home::new(1, entities, clock::now()), knobs);
        let (database, listener) = Database::bind(mood).await?;
        let mut group = Group::new("bench");
        group.spawn("simulator", |stop| simulator.run(stop));
        group.spawn("database", |stop| database.clone().run(listener, stop));
        // In the checkout, which is on a disk where the system's folder for such things may be memory.
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        Ok(Self { folder, handle, database, home, group })
    }

    pub(crate) fn start(&self, delivery: &Value) -> anyhow::Result<Service> {
        self.start_with(&serde_json::json!({ "delivery": delivery }))
    }

    /// With these sections of the options.
    pub(crate) fn start_with(&self, sections: &Value) -> anyhow::Result<Service> {
        Service::start(self.folder.path(), self.home, self.database.address, sections)
    }

    /// Where the service looks for them.
    pub(crate) fn write_rules(&self, rules: &str) -> anyhow::Result<()> {
        let data = data_of(self.folder.path());
        std::fs::create_dir_all(&data)?;
        Ok(std::fs::write(data.join("rules.yaml"), rules)?)
    }

    /// Events as fast as a window allows, of which `confirmed` is the far end.
    pub(crate) fn flood(&self, events: u64, per_frame: usize, window: Window) {
        self.handle.turn(|knobs| knobs.flood = Some(FloodKnobs { events, per_frame, window: Some(window) }));
    }

    /// So many events at an even pace, until the service has all of them.
    pub(crate) async fn pour(&self, service: &mut Service, events: u64, per_second: u64) -> anyhow::Result<()> {
        let before = service.metric("events_received_total").await?;
        let confirmed = Arc::new(AtomicU64::new(0));
        let per_beat = per_second * BEAT_MS / 1000;
        self.flood(events, 64, Window { events: per_beat, confirmed: Arc::clone(&confirmed) });
        let mut beats = interval(Duration::from_millis(BEAT_MS));
        while confirmed.load(Ordering::Acquire) < events {
            beats.tick().await;
            service.must_run()?;
            confirmed.fetch_add(per_beat, Ordering::Release);
        }
        // The flood begins a little later than the clock.
        while service.metric("events_received_total").await? < before + events {
            service.must_run()?;
            confirmed.fetch_add(per_beat, Ordering::Release);
            sleep(Duration::from_millis(BEAT_MS)).await;
        }
        Ok(())
    }

    pub(crate) async fn end(self) {
        shut_down(vec![self.group], Duration::from_secs(5)).await;
    }
}
