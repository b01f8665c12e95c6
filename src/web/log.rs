//! `/api/log`: how much the log says. GET tells it; PUT changes it until the next start: for administrators.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use tracing::{Level, info};
use warp::http::{HeaderMap, StatusCode};
use warp::hyper::body::Bytes;
use warp::reply::Response;

use super::jobs::{Jobs, not_json, refuse};
use super::problem;
use crate::runtime::logging::Control;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wish {
    level: Box<str>,
}

pub(super) fn level(log: &Control) -> Response {
    super::json(StatusCode::OK, &json!({ "level": log.level().as_str().to_ascii_lowercase() }))
}

pub(super) async fn set_level(
    from: Option<SocketAddr>,
    headers: HeaderMap,
    body: Bytes,
    jobs: Arc<dyn Jobs>,
    log: Control,
) -> Result<Response, Infallible> {
    if let Some(refused) = not_json(&headers) {
        return Ok(refused);
    }
    if let Some(refused) = refuse(from, &headers, &jobs).await {
        return Ok(refused);
    }
    let wanted = serde_json::from_slice(&body).ok().and_then(|Wish { level }| named(&level));
    let Some(wanted) = wanted else {
        let words = r#"send {"level": "debug"}, or one of error, warn, info, trace"#;
        return Ok(problem(StatusCode::BAD_REQUEST, words));
    };
    let before = log.level();
    log.set_level(wanted);
    info!("the log says what is of level {wanted} or more important, until now it was {before}");
    Ok(level(&log))
}

/// As the option names them.
fn named(name: &str) -> Option<Level> {
    [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE]
        .into_iter()
        .find(|level| level.as_str().to_ascii_lowercase() == name)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing::Level;
    use warp::http::HeaderMap;
    use warp::hyper::body::Bytes;

    use super::set_level;
    use crate::runtime::logging::Control;
    use crate::web::jobs::tests::Idle;

    #[tokio::test]
    async fn administrators_set_the_level_to_one_that_there_is() {
        let log = Control::detached(Level::INFO);
        let table = [
            ("127.0.0.1:7", r#"{"level":"loud"}"#, "application/json", 400, Level::INFO),
            ("127.0.0.1:7", r#"{"level":"debug","x":1}"#, "application/json", 400, Level::INFO),
            ("127.0.0.1:7", "", "application/json", 400, Level::INFO),
            ("127.0.0.1:7", r#"{"level":"debug"}"#, "text/plain", 415, Level::INFO),
            ("172.30.32.2:7", r#"{"level":"debug"}"#, "application/json", 403, Level::INFO),
            ("127.0.0.1:7", r#"{"level":"debug"}"#, "application/json", 200, Level::DEBUG),
            ("127.0.0.1:7", r#"{"level":"error"}"#, "application/json", 200, Level::ERROR),
        ];
        for (from, body, kind, status, level) in table {
            let mut headers = HeaderMap::new();
            headers.insert("content-type", kind.parse().unwrap());
            let (from, body) = (Some(from.parse().unwrap()), Bytes::from(body));
            let answer = set_level(from, headers, body, Arc::new(Idle), log.clone()).await.unwrap();
            assert_eq!((answer.status().as_u16(), log.level()), (status, level));
        }
    }
}
