//! Who may ask for what happens in a home.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// From where the Supervisor hands on what its users ask.
const SUPERVISOR: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 30, 32, 2));

/// Everybody else is refused.
#[derive(Debug)]
pub(super) struct Stranger;

impl warp::reject::Reject for Stranger {}

/// Only this machine, and the Supervisor, which has checked who asks. A listener always knows who is there; what has no
/// address is a test inside of this process.
pub(super) fn may_see(from: Option<SocketAddr>) -> bool {
    from.is_none_or(|from| {
        let from = from.ip().to_canonical();
        from.is_loopback() || from == SUPERVISOR
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::may_see;

    #[test]
    fn only_this_machine_and_the_supervisor_may_see_what_happens_in_the_home() {
        for (from, may) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("172.30.32.2", true),
            ("172.30.32.1", false),
            ("192.168.1.5", false),
            ("fe80::1", false),
        ] {
            assert_eq!(may_see(Some(SocketAddr::new(from.parse().unwrap(), 1))), may, "{from}");
        }
    }
}
