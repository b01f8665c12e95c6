//! What happens to the four programs and the network between them, in an order that a seed decides.

use std::thread;
use std::time::{Duration, SystemTime};

use fastrand::Rng;

use super::proxy::{Network, Proxy};
use crate::ingestor::Ingestor;
use crate::peers::home_assistant::HomeAssistant;
use crate::support::influxd::Influxd;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    KillIngestor,
    StopInfluxd,
    KillInfluxd,
    RestartHome,
    KillHome,
    HomeAway(Network),
    InfluxdAway(Network),
}

/// Everything that breaks.
pub struct World {
    pub ingestor: Ingestor,
    pub influxd: Influxd,
    pub home: HomeAssistant,
    pub to_home: Proxy,
    pub to_influxd: Proxy,
}

/// Each kind once: which of its two forms, and in which order, is left to chance.
pub fn round(rng: &mut Rng) -> Vec<Fault> {
    let mut network = || if rng.bool() { Network::Cut } else { Network::BlackHole };
    let mut faults = vec![Fault::KillIngestor, Fault::HomeAway(network()), Fault::InfluxdAway(network())];
    faults.push(if rng.bool() { Fault::StopInfluxd } else { Fault::KillInfluxd });
    faults.push(if rng.bool() { Fault::RestartHome } else { Fault::KillHome });
    rng.shuffle(&mut faults);
    faults
}

impl World {
    /// Breaks it, waits, and mends it. Meanwhile the ingestor may be killed too.
    pub fn suffer(&mut self, fault: Fault, rng: &mut Rng) {
        let down = Duration::from_millis(rng.u64(2_000..6_000));
        let kill_too = fault != Fault::KillIngestor && rng.u8(0..3) == 0;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis();
        println!("{now}: {fault:?} for {} ms{}", down.as_millis(), if kill_too { ", and KillIngestor" } else { "" });
        match fault {
            Fault::KillIngestor => self.ingestor.kill(),
            Fault::StopInfluxd => self.influxd.stop(),
            Fault::KillInfluxd => self.influxd.kill(),
            Fault::RestartHome => self.home.stop(),
            Fault::KillHome => self.home.kill(),
            Fault::HomeAway(network) => self.to_home.turn(network),
            Fault::InfluxdAway(network) => self.to_influxd.turn(network),
        }
        pause(down / 2);
        if kill_too {
            self.ingestor.kill();
            self.ingestor.start_again();
        }
        pause(down / 2);
        match fault {
            Fault::KillIngestor => self.ingestor.start_again(),
            Fault::StopInfluxd | Fault::KillInfluxd => self.influxd.start_again(),
            Fault::RestartHome | Fault::KillHome => self.home.start_again(),
            Fault::HomeAway(_) => self.to_home.turn(Network::Up),
            Fault::InfluxdAway(_) => self.to_influxd.turn(Network::Up),
        }
        pause(Duration::from_millis(rng.u64(1_000..4_000)));
    }
}

#[expect(clippy::disallowed_methods, reason = "load goes on meanwhile, and no runtime is there to block")]
fn pause(time: Duration) {
    thread::sleep(time);
}
