//! The broker whose messages are listened to.

use super::super::Machine;
use super::super::faults::Faults;
use super::super::options;
use super::super::settings::{Broker, Mqtt};
use super::{given, tls, whole};

pub(super) fn check(typed: options::Mqtt, machine: &Machine<'_>, faults: &mut Faults) -> Option<Mqtt> {
    let port = whole("mqtt.port", typed.port, 1..=65_535, faults);
    let tls = typed.tls.then(|| tls("mqtt", typed.verify_tls, &typed.ca_certificate, machine, faults));
    if !typed.enabled {
        return None;
    }
    let Some(host) = given(typed.host) else {
        return machine.supervisor_token().map(|token| Mqtt::Supervisor { token });
    };
    Some(Mqtt::Broker(Broker {
        host,
        port: u16::try_from(port).expect("the range ends at 65535"),
        username: given(typed.username),
        password: typed.password,
        tls,
    }))
}
