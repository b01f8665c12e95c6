//! What the service answers over HTTP: health, readiness, dependencies, metrics, dead letters.
//!
//! Every answer is a function of the [`Snapshot`], but for the dead letters, which are on disk; nothing here changes
//! anything. Every answer carries the caller's
//! `X-Correlation-ID`, or a new one.

mod correlation;
mod dead_letters;
mod health;
mod metrics;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use warp::http::{HeaderMap, Method, StatusCode, header};
use warp::path::FullPath;
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use crate::dead_letters::Store;
use crate::runtime::{BEAT, clock};
use crate::status::board::Board;
use crate::status::snapshot::Snapshot;

/// How long open connections may keep the orderly stop waiting.
const GOODBYE: Duration = Duration::from_secs(1);

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    Everything,
    /// Only what a monitoring system asks for: `/health`, `/ready`, `/metrics`.
    Monitoring,
}

/// What the answers are made of.
#[derive(Clone)]
pub struct State {
    pub board: Arc<Board>,
    pub letters: Store,
}

/// Serves until `stop`. The listener is bound by the caller, so that a busy port is an error before anything runs.
pub async fn serve(listener: TcpListener, surface: Surface, state: State, stop: CancellationToken) {
    let task = if surface == Surface::Everything { "web" } else { "web_monitoring" };
    let asked = stop.clone();
    let board = Arc::clone(&state.board);
    let server =
        warp::serve(routes(surface, state)).incoming(listener).graceful(async move { asked.cancelled().await }).run();
    let beats = async {
        let mut beat = tokio::time::interval(BEAT);
        loop {
            beat.tick().await;
            board.beat(task, Instant::now());
        }
    };
    let ended = async {
        stop.cancelled().await;
        tokio::time::sleep(GOODBYE).await;
    };
    tokio::select! {
        () = server => {}
        () = beats => {}
        () = ended => warn!("closed the web server with connections still open"),
    }
}

fn routes(
    surface: Surface,
    State { board, letters }: State,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + 'static {
    let snapshot = warp::any().map(move || board.snapshot(Instant::now(), clock::now()));
    let get = warp::get().or(warp::head()).unify();

    let health = get.and(warp::path!("health")).and(snapshot.clone()).map(|seen: Snapshot| {
        let live = health::live(&seen);
        json(if live.is_live() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &live)
    });
    let ready = get.and(warp::path!("ready")).and(snapshot.clone()).map(|seen: Snapshot| {
        let ready = health::ready(&seen);
        json(if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &ready)
    });
    let scrape = get
        .and(warp::path!("metrics"))
        .and(warp::header::headers_cloned())
        .and(snapshot.clone())
        .map(|headers: HeaderMap, seen: Snapshot| metrics::reply(seen, &headers));
    let monitoring = health.or(ready).unify().or(scrape).unify();

    let full = move || match surface {
        Surface::Everything => Ok(()),
        Surface::Monitoring => Err(warp::reject::not_found()),
    };
    let index = get.and(warp::path::end()).map(|| {
        let paths = ["/health", "/ready", "/metrics", "/health/dependencies", "/api/dead-letters"];
        json(StatusCode::OK, &json!({ "name": "ha-ingestor", "version": env!("CARGO_PKG_VERSION"), "paths": paths }))
    });
    let dependencies = get
        .and(warp::path!("health" / "dependencies"))
        .and(snapshot.clone())
        .map(|seen: Snapshot| json(StatusCode::OK, &health::dependencies(&seen)));
    let dependency =
        get.and(warp::path!("health" / "dependencies" / String)).and(snapshot).map(|name: String, seen: Snapshot| {
            match health::dependency(&seen, &name) {
                Some(found) => json(StatusCode::OK, &found),
                None => {
                    let names: Vec<_> = health::dependencies(&seen).into_iter().map(|known| known.name).collect();
                    problem(
                        StatusCode::NOT_FOUND,
                        &format!("there is no such dependency; there are {}", names.join(", ")),
                    )
                }
            }
        });
    let dead_letters = get
        .and(warp::path!("api" / "dead-letters"))
        .and(warp::filters::addr::remote())
        .and(warp::query::<dead_letters::Query>())
        .and(warp::any().map(move || letters.clone()))
        .and_then(dead_letters::list);
    let everything = warp::any()
        .and_then(move || std::future::ready(full()))
        .untuple_one()
        .and(index.or(dependencies).unify().or(dependency).unify().or(dead_letters).unify());

    warp::method()
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(monitoring.or(everything).unify().recover(refusal).unify())
        .map(|method: Method, path: FullPath, headers: HeaderMap, mut response: Response| {
            let id = correlation::of(&headers);
            debug!(request = %id, status = response.status().as_u16(), "{method} {}", path.as_str());
            response.headers_mut().insert(correlation::HEADER, id.into_header());
            response
        })
}

/// Turns what no route took into an answer.
async fn refusal(rejection: Rejection) -> Result<Response, Infallible> {
    Ok(if rejection.is_not_found() {
        problem(StatusCode::NOT_FOUND, "there is nothing here; GET / lists what there is")
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here");
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        response
    } else {
        problem(StatusCode::BAD_REQUEST, "the request cannot be understood")
    })
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    warp::reply::with_status(warp::reply::json(body), status).into_response()
}

fn problem(status: StatusCode, error: &str) -> Response {
    json(status, &json!({ "error": error }))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::{State, Surface, routes};
    use crate::dead_letters::Store;
    use crate::model::time::Timestamp;
    use crate::status::board::Board;

    fn board() -> Arc<Board> {
        Arc::new(Board::new(Instant::now(), Timestamp::from_micros(0)))
    }

    fn state(board: &Arc<Board>) -> State {
        State { board: Arc::clone(board), letters: Store::open("/nowhere/dead-letters", 0) }
    }

    async fn get(path: &str, board: &Arc<Board>, surface: Surface) -> (u16, String) {
        let answer = warp::test::request().path(path).reply(&routes(surface, state(board))).await;
        (answer.status().as_u16(), String::from_utf8_lossy(answer.body()).into_owned())
    }

    #[tokio::test]
    async fn ready_needs_both_ends_and_names_the_one_that_is_missing() {
        let board = board();
        let (status, body) = get("/ready", &board, Surface::Everything).await;
        assert_eq!(status, 503);
        assert!(body.contains("home_assistant") && body.contains("influxdb"), "{body}");

        board.home_assistant.connected("Home Assistant 2025.4.4", Timestamp::from_micros(1));
        board.targets[0].link.failed("connection refused", Timestamp::from_micros(1));
        let (status, body) = get("/ready", &board, Surface::Everything).await;
        assert_eq!(status, 503);
        assert!(!body.contains("home_assistant") && body.contains("connection refused"), "{body}");

        board.targets[0].link.connected("InfluxDB 1.6.7", Timestamp::from_micros(2));
        assert_eq!(get("/ready", &board, Surface::Everything).await.0, 200);
        board.set_stopping();
        assert_eq!(get("/ready", &board, Surface::Everything).await.0, 503);
    }

    #[tokio::test]
    async fn every_answer_carries_a_correlation_id() {
        let routes = routes(Surface::Everything, state(&board()));
        for (method, path, status) in
            [("GET", "/health", 200), ("GET", "/nothing", 404), ("POST", "/health", 405), ("HEAD", "/health", 200)]
        {
            let request = warp::test::request().method(method).path(path);
            let answer = request.header("x-correlation-id", "from-the-caller").reply(&routes).await;
            assert_eq!(answer.status(), status, "{method} {path}");
            assert_eq!(answer.headers()["x-correlation-id"], "from-the-caller");
        }
        let one = warp::test::request().path("/health").reply(&routes).await;
        let other = warp::test::request().path("/health").reply(&routes).await;
        assert_ne!(one.headers()["x-correlation-id"], other.headers()["x-correlation-id"]);
    }

    #[tokio::test]
    async fn the_monitoring_listener_serves_nothing_else() {
        let board = board();
        for path in ["/", "/health/dependencies", "/health/dependencies/influxdb", "/health/dependencies/mqtt"] {
            assert_eq!(get(path, &board, Surface::Everything).await.0, 200, "{path}");
            assert_eq!(get(path, &board, Surface::Monitoring).await.0, 404, "{path}");
        }
        assert_eq!(get("/metrics", &board, Surface::Monitoring).await.0, 200);
        assert_eq!(get("/health/dependencies/mail", &board, Surface::Everything).await.0, 404);
    }
}
