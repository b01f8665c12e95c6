//! `/api/dead-letters`: the lines that databases refused, newest first.
//!
//! A line is what happened in somebody's home, so only this machine and the Supervisor, which has checked who asks, get an
//! answer.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::Deserialize;
use tokio::task::spawn_blocking;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::dead_letters::Store;

use super::{json, problem};

/// From where the Supervisor hands on what its users ask.
const SUPERVISOR: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 30, 32, 2));

/// The most that one answer holds: letters are short, but not always.
const MOST: usize = 1_000;

#[derive(Deserialize)]
pub(super) struct Query {
    /// Only those of this target.
    target: Option<String>,
    /// At most so many; 100 if nothing is said, never more than 1000.
    limit: Option<usize>,
}

pub(super) async fn list(from: Option<SocketAddr>, query: Query, letters: Store) -> Result<Response, Infallible> {
    // A listener always knows who is there; what has no address is a test inside of this process.
    if from.is_some_and(|from| !may_see(from.ip())) {
        return Ok(problem(
            StatusCode::FORBIDDEN,
            "only Home Assistant and this machine may see what happens in the home",
        ));
    }
    let limit = query.limit.unwrap_or(100).min(MOST);
    let listed = spawn_blocking(move || Ok((letters.list(limit, query.target.as_deref())?, letters.count()?)));
    let listed: Result<_, std::io::Error> = listed.await.expect("the store does not panic");
    Ok(match listed {
        Ok((letters, count)) => {
            let kept = serde_json::json!({ "kept": count.letters, "unreadable": count.unreadable, "letters": letters });
            json(StatusCode::OK, &kept)
        }
        Err(err) => problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("the dead letters cannot be read: {err}")),
    })
}

fn may_see(from: IpAddr) -> bool {
    let from = from.to_canonical();
    from.is_loopback() || from == SUPERVISOR
}

#[cfg(test)]
mod tests {
    use super::may_see;

    #[test]
    fn only_this_machine_and_the_supervisor_may_see_the_letters() {
        for (from, may) in [
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("172.30.32.2", true),
            ("172.30.32.1", false),
            ("192.168.1.5", false),
            ("fe80::1", false),
        ] {
            assert_eq!(may_see(from.parse().unwrap()), may, "{from}");
        }
    }
}
