//! The broker whose messages are listened to.

use super::super::Machine;
use super::super::faults::{Faults, shown};
use super::super::options;
use super::super::settings::{Broker, Mqtt};
use super::{given, tls, whole};

const HOST: &str = "mqtt.host";
const CERTIFICATE: &str = "mqtt.ca_certificate";

pub(super) fn check(typed: options::Mqtt, machine: &Machine<'_>, faults: &mut Faults) -> Option<Mqtt> {
    let port = whole("mqtt.port", typed.port, 1..=65_535, faults);
    if !typed.enabled {
        return None;
    }
    let host = given(typed.host.trim().to_owned());
    if let Some(host) = &host {
        name_of_host(host, faults);
    }
    if typed.username.is_empty() && !typed.password.is_empty() {
        faults.at("mqtt.username", "is empty, but mqtt.password is set: give both");
    }
    if host.is_none() && !typed.username.is_empty() {
        faults.at(HOST, "is empty, but mqtt.username is set: say whose user that is, such as core-mosquitto");
    }
    if !typed.tls && !typed.ca_certificate.is_empty() {
        faults.at(CERTIFICATE, "is of no use without mqtt.tls: turn that on, or leave this empty");
    }
    let tls = typed.tls.then(|| tls("mqtt", typed.verify_tls, &typed.ca_certificate, machine, faults));
    if let Some(path) = tls.as_ref().and_then(|tls| tls.ca_certificate.as_ref())
        && let Ok(text) = (machine.read)(path)
        && !text.contains("-----BEGIN CERTIFICATE-----")
    {
        let path = shown(&path.to_string_lossy());
        faults.at(CERTIFICATE, format_args!("{path} holds no certificate in PEM form, which begins with -----BEGIN"));
    }
    let Some(host) = host else {
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

/// An address is not shown: it may hold a password.
fn name_of_host(host: &str, faults: &mut Faults) {
    if let Some((scheme, _)) = host.split_once("://") {
        let tls =
            if ["mqtts", "ssl", "tls", "https", "wss"].contains(&scheme) { "; mqtt.tls is for encryption" } else { "" };
        faults
            .at(HOST, format_args!("must be a name or an IP address alone, without `://` and what is before it{tls}"));
    } else if host.contains('@') {
        faults.at(HOST, "must be a name or an IP address alone: mqtt.username and mqtt.password are the login");
    } else if host.contains(['/', '?', '#']) || host.contains(char::is_whitespace) {
        faults.at(HOST, "must be a name or an IP address alone");
    } else if host.matches(':').count() == 1 {
        faults.at(HOST, "must be a name or an IP address alone: mqtt.port is the port");
    }
}
