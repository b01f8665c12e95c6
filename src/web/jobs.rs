//! `/api/job`: long work that people order and watch - an import, or a comparison. One at a time.
//!
//! GET says how it is. POST orders one, DELETE stops it; only administrators of Home Assistant may. `/api/coverage` says
//! what comparisons have found out so far.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use warp::http::{HeaderMap, StatusCode, header};
use warp::hyper::body::Bytes;
use warp::reply::Response;

use super::{json, problem};

/// What an order may take.
pub(super) const MOST_BYTES: u64 = 16 << 10;

/// The Supervisor names the user in it, and lets nobody else do so.
const USER: &str = "x-remote-user-id";

/// What is ordered. Times are RFC 3339, or dates in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// As the command `import`.
    Import {
        from: Option<String>,
        to: Option<String>,
        #[serde(default = "yes")]
        raw: bool,
        #[serde(default = "yes")]
        statistics: bool,
        #[serde(default = "yes")]
        value: bool,
        #[serde(default)]
        dry_run: bool,
    },
    /// As the command `verify`.
    Verify {
        from: Option<String>,
        to: Option<String>,
        #[serde(default)]
        repair: bool,
    },
}

const fn yes() -> bool {
    true
}

/// How the last job is, or was.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Job {
    /// `import` or `verify`; empty if there was none in this run of the program.
    pub kind: &'static str,
    pub running: bool,
    /// What is being done.
    pub phase: String,
    /// From 0 to 1, of the phase.
    pub done: f64,
    pub seconds: f64,
    /// At the present pace, of the phase.
    pub seconds_left: Option<f64>,
    /// Rows of Home Assistant's history that were looked at.
    pub rows: u64,
    pub rows_per_second: f64,
    /// Points that were written, or would be.
    pub points: u64,
    /// What was found out, once it has ended well.
    pub result: Option<Value>,
    /// Why it ended otherwise.
    pub error: Option<String>,
}

/// Whoever does the work.
pub trait Jobs: Send + Sync {
    fn seen(&self) -> Job;

    /// Begins it. `Err`: what is wrong with the order, in the user's words.
    fn order(&self, order: Order) -> Result<(), NotOrdered>;

    /// It ends soon, and what it did stays. `false`: none is running.
    fn stop(&self) -> bool;

    /// Whether this user of Home Assistant is an administrator. Takes seconds at most.
    fn is_administrator(self: Arc<Self>, user: String) -> BoxFuture<'static, Result<bool, String>>;

    /// What comparisons have found out, as [`crate::history::verify::coverage::Coverage::figures`] has it; of one entity, or of all.
    fn coverage(self: Arc<Self>, entity_id: Option<String>) -> BoxFuture<'static, Value>;
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    entity_id: Option<String>,
}

pub(super) async fn coverage(query: Query, jobs: Arc<dyn Jobs>) -> Result<Response, Infallible> {
    Ok(json(StatusCode::OK, &jobs.coverage(query.entity_id).await))
}

/// Why nothing was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotOrdered {
    /// Another one is running.
    Busy,
    Wrong(String),
}

pub(super) async fn order(
    from: Option<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
    jobs: Arc<dyn Jobs>,
) -> Result<Response, Infallible> {
    if let Some(refused) = not_json(&headers) {
        return Ok(refused);
    }
    if let Some(refused) = refuse(from, &headers, &jobs).await {
        return Ok(refused);
    }
    let order: Order = match serde_json::from_slice(&body) {
        Ok(order) => order,
        Err(err) => return Ok(problem(StatusCode::BAD_REQUEST, &format!("this is no order: {err}"))),
    };
    Ok(match jobs.order(order) {
        Ok(()) => json(StatusCode::ACCEPTED, &jobs.seen()),
        Err(NotOrdered::Busy) => problem(StatusCode::CONFLICT, "one is running; DELETE stops it"),
        Err(NotOrdered::Wrong(words)) => problem(StatusCode::BAD_REQUEST, &words),
    })
}

pub(super) async fn stop(
    from: Option<SocketAddr>,
    headers: HeaderMap,
    jobs: Arc<dyn Jobs>,
) -> Result<Response, Infallible> {
    if let Some(refused) = refuse(from, &headers, &jobs).await {
        return Ok(refused);
    }
    Ok(if jobs.stop() {
        json(StatusCode::ACCEPTED, &jobs.seen())
    } else {
        problem(StatusCode::CONFLICT, "none is running")
    })
}

/// A page of somebody else's can send forms without being asked, but not JSON. Returns what it hears.
pub(super) fn not_json(headers: &HeaderMap) -> Option<Response> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    (!kind.starts_with("application/json"))
        .then(|| problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the order as application/json"))
}

/// This machine may, and through the Supervisor administrators of Home Assistant. Returns what everybody else hears.
pub(super) async fn refuse(from: Option<SocketAddr>, headers: &HeaderMap, jobs: &Arc<dyn Jobs>) -> Option<Response> {
    let may = match headers.get(USER).and_then(|user| user.to_str().ok()) {
        None => Ok(from.is_none_or(|from| from.ip().to_canonical().is_loopback())),
        Some(user) => Arc::clone(jobs).is_administrator(user.to_owned()).await,
    };
    match may {
        Ok(true) => None,
        Ok(false) => Some(problem(StatusCode::FORBIDDEN, "only administrators of Home Assistant may do this")),
        Err(words) => Some(problem(StatusCode::SERVICE_UNAVAILABLE, &words)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use futures_util::future::{BoxFuture, FutureExt};
    use serde_json::Value;
    use warp::http::HeaderMap;
    use warp::hyper::body::Bytes;

    use super::{Job, Jobs, NotOrdered, Order, order, stop};

    /// Does nothing, and takes orders of `anna`.
    pub(in crate::web) struct Idle;

    impl Jobs for Idle {
        fn seen(&self) -> Job {
            Job::default()
        }

        fn order(&self, order: Order) -> Result<(), NotOrdered> {
            match order {
                Order::Import { from: Some(from), .. } => Err(NotOrdered::Wrong(from)),
                Order::Import { .. } => Ok(()),
                Order::Verify { .. } => Err(NotOrdered::Busy),
            }
        }

        fn stop(&self) -> bool {
            true
        }

        fn is_administrator(self: Arc<Self>, user: String) -> BoxFuture<'static, Result<bool, String>> {
            let answer = if user == "nobody answers" { Err("away".to_owned()) } else { Ok(user == "anna") };
            std::future::ready(answer).boxed()
        }

        fn coverage(self: Arc<Self>, entity_id: Option<String>) -> BoxFuture<'static, Value> {
            std::future::ready(Value::from(entity_id)).boxed()
        }
    }

    #[tokio::test]
    async fn only_administrators_order_and_only_what_there_is() {
        const JSON: &str = "application/json";
        const IMPORT: &str = r#"{"kind":"import"}"#;
        let table = [
            ("127.0.0.1:7", None, JSON, IMPORT, 202),
            ("172.30.32.2:7", None, JSON, IMPORT, 403),
            ("172.30.32.2:7", Some("anna"), JSON, IMPORT, 202),
            ("172.30.32.2:7", Some("ben"), JSON, IMPORT, 403),
            ("127.0.0.1:7", Some("ben"), JSON, IMPORT, 403),
            ("172.30.32.2:7", Some("nobody answers"), JSON, IMPORT, 503),
            ("127.0.0.1:7", None, "text/plain", IMPORT, 415),
            ("127.0.0.1:7", None, "", IMPORT, 415),
            ("127.0.0.1:7", None, JSON, r#"{"kind":"verify"}"#, 409),
            ("127.0.0.1:7", None, JSON, r#"{"kind":"import","from":"wrong"}"#, 400),
            ("127.0.0.1:7", None, JSON, r#"{"kind":"import","form":"x"}"#, 400),
            ("127.0.0.1:7", None, JSON, "{}", 400),
            ("127.0.0.1:7", None, JSON, "", 400),
        ];
        for (from, user, kind, body, status) in table {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", kind.parse().unwrap());
            if let Some(user) = user {
                headers.insert("x-remote-user-id", user.parse().unwrap());
            }
            let from = Some(from.parse().unwrap());
            let answer = order(from, headers.clone(), Bytes::from(body), Arc::new(Idle)).await.unwrap();
            assert_eq!(answer.status(), status, "{from:?} {user:?} {kind} {body}");
            if status == 403 {
                assert_eq!(stop(from, headers, Arc::new(Idle)).await.unwrap().status(), 403);
            }
        }
    }
}
