//! What the service answers over HTTP: health, readiness, dependencies, metrics; and to who may see into the home
//! (`/api`) dead letters, previews and rules.
//!
//! Every answer is a function of the [`Snapshot`], but for the dead letters, which are on disk, and what is asked about the
//! rules, and the work that administrators order ([`jobs`]). Every answer carries the caller's `X-Correlation-ID`, or a new one.

mod correlation;
mod dead_letters;
mod health;
pub mod jobs;
mod log;
mod metrics;
pub mod preview;
mod rules;
mod visitors;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use warp::http::{HeaderMap, Method, StatusCode, header};
use warp::path::FullPath;
use warp::reply::{Reply, Response};
use warp::{Filter, Rejection};

use self::jobs::Jobs;
use self::preview::Preview;
use self::visitors::{Stranger, may_see};
use crate::dead_letters::Store;
use crate::rules::Rules;
use crate::runtime::logging::Control;
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
    /// Those that are in force.
    pub rules: watch::Receiver<Arc<Rules>>,
    pub preview: Arc<dyn Preview>,
    pub jobs: Arc<dyn Jobs>,
    pub log: Control,
}

/// Serves until `stop`. The listener is bound by the caller, so that a busy port is an error before anything runs.
pub async fn serve(listener: TcpListener, surface: Surface, state: State, stop: CancellationToken) {
    let task = if surface == Surface::Everything { "web" } else { "web_monitoring" };
    let asked = stop.clone();
    let board = Arc::clone(&state.board);
    let server =
        warp::serve(routes(surface, &state)).incoming(listener).graceful(async move { asked.cancelled().await }).run();
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
    state: &State,
) -> impl Filter<Extract = (Response,), Error = Infallible> + Clone + Send + Sync + use<> {
    let full = move || match surface {
        Surface::Everything => Ok(()),
        Surface::Monitoring => Err(warp::reject::not_found()),
    };
    let everything = warp::any()
        .and_then(move || std::future::ready(full()))
        .untuple_one()
        .and(dependencies(&state.board).or(inside(state.clone())).unify());

    warp::method()
        .and(warp::path::full())
        .and(warp::header::headers_cloned())
        .and(monitoring(&state.board).or(everything).unify().recover(refusal).unify())
        .map(|method: Method, path: FullPath, headers: HeaderMap, mut response: Response| {
            if response.status() == StatusCode::METHOD_NOT_ALLOWED {
                response = wrong_method(path.as_str());
            }
            let id = correlation::of(&headers);
            debug!(request = %id, status = response.status().as_u16(), "{method} {}", path.as_str());
            response.headers_mut().insert(correlation::HEADER, id.into_header());
            response
        })
}

fn monitoring(board: &Arc<Board>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + use<> {
    let health = warp::path!("health").and(get()).and(snapshot(board)).map(|seen: Snapshot| {
        let live = health::live(&seen);
        json(if live.is_live() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &live)
    });
    let ready = warp::path!("ready").and(get()).and(snapshot(board)).map(|seen: Snapshot| {
        let ready = health::ready(&seen);
        json(if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &ready)
    });
    let scrape = warp::path!("metrics")
        .and(get())
        .and(warp::header::headers_cloned())
        .and(snapshot(board))
        .map(|headers: HeaderMap, seen: Snapshot| metrics::reply(seen, &headers));
    health.or(ready).unify().or(scrape).unify()
}

fn dependencies(board: &Arc<Board>) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + use<> {
    let index = warp::path::end().and(get()).map(|| {
        let paths = [
            "/health",
            "/ready",
            "/metrics",
            "/health/dependencies",
            "/api/coverage",
            "/api/dead-letters",
            "/api/history",
            "/api/job",
            "/api/log",
            "/api/preview",
            "/api/rules",
        ];
        json(StatusCode::OK, &json!({ "name": "ha-ingestor", "version": env!("CARGO_PKG_VERSION"), "paths": paths }))
    });
    let all = warp::path!("health" / "dependencies")
        .and(get())
        .and(snapshot(board))
        .map(|seen: Snapshot| json(StatusCode::OK, &health::dependencies(&seen)));
    let one = warp::path!("health" / "dependencies" / String).and(get()).and(snapshot(board)).map(
        |name: String, seen: Snapshot| match health::dependency(&seen, &name) {
            Some(found) => json(StatusCode::OK, &found),
            None => {
                let names: Vec<_> = health::dependencies(&seen).into_iter().map(|known| known.name).collect();
                problem(StatusCode::NOT_FOUND, &format!("there is no such dependency; there are {}", names.join(", ")))
            }
        },
    );
    index.or(all).unify().or(one).unify()
}

/// What happens in somebody's home: `/api`.
fn inside(
    State { board, letters, rules, preview, jobs, log }: State,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone {
    let visitor = warp::path("api")
        .and(warp::filters::addr::remote())
        .and_then(|from| std::future::ready(if may_see(from) { Ok(()) } else { Err(warp::reject::custom(Stranger)) }))
        .untuple_one();
    let with_preview = warp::any().map(move || Arc::clone(&preview));

    let dead_letters = warp::path!("dead-letters")
        .and(get())
        .and(warp::query::<dead_letters::Query>())
        .and(warp::any().map(move || letters.clone()))
        .and_then(dead_letters::list);
    let of_entity = warp::path!("preview")
        .and(get())
        .and(warp::query::<preview::Query>())
        .and(with_preview.clone())
        .and_then(preview::of_entity);
    let of_state = warp::path!("preview")
        .and(warp::post())
        .and(warp::body::content_length_limit(preview::MOST_BYTES))
        .and(warp::body::bytes())
        .and(with_preview)
        .and_then(preview::of_state);
    let in_force = warp::path!("rules")
        .and(get())
        .and(snapshot(&board))
        .map(move |seen: Snapshot| json(StatusCode::OK, &rules::in_force(&rules.borrow(), &seen)));
    let history = warp::path!("history")
        .and(get())
        .and(snapshot(&board))
        .map(|seen: Snapshot| json(StatusCode::OK, &seen.history));
    let with_jobs = warp::any().map(move || Arc::clone(&jobs));
    let order = warp::path!("job")
        .and(warp::post())
        .and(warp::filters::addr::remote())
        .and(warp::header::headers_cloned())
        .and(warp::body::content_length_limit(jobs::MOST_BYTES))
        .and(warp::body::bytes())
        .and(with_jobs.clone())
        .and_then(jobs::order);
    let stop = warp::path!("job")
        .and(warp::delete())
        .and(warp::filters::addr::remote())
        .and(warp::header::headers_cloned())
        .and(with_jobs.clone())
        .and_then(jobs::stop);
    let covered = warp::path!("coverage")
        .and(get())
        .and(warp::query::<jobs::Query>())
        .and(with_jobs.clone())
        .and_then(jobs::coverage);
    let with_log = warp::any().map(move || log.clone());
    let level = warp::path!("log").and(get()).and(with_log.clone()).map(|log: Control| log::level(&log));
    let set_level = warp::path!("log")
        .and(warp::put())
        .and(warp::filters::addr::remote())
        .and(warp::header::headers_cloned())
        .and(warp::body::content_length_limit(jobs::MOST_BYTES))
        .and(warp::body::bytes())
        .and(with_jobs.clone())
        .and(with_log)
        .and_then(log::set_level);
    let job =
        warp::path!("job").and(get()).and(with_jobs).map(|jobs: Arc<dyn Jobs>| json(StatusCode::OK, &jobs.seen()));
    let jobs = job.or(order).unify().or(stop).unify();
    visitor.and(
        dead_letters
            .or(history)
            .unify()
            .or(of_entity)
            .unify()
            .or(of_state)
            .unify()
            .or(in_force)
            .unify()
            .or(jobs)
            .unify()
            .or(covered)
            .unify()
            .or(level)
            .unify()
            .or(set_level)
            .unify(),
    )
}

fn get() -> impl Filter<Extract = (), Error = Rejection> + Copy {
    warp::get().or(warp::head()).unify()
}

fn snapshot(board: &Arc<Board>) -> impl Filter<Extract = (Snapshot,), Error = Infallible> + Clone + use<> {
    let board = Arc::clone(board);
    warp::any().map(move || board.snapshot(Instant::now(), clock::now()))
}

/// Turns what no route took into an answer.
async fn refusal(rejection: Rejection) -> Result<Response, Infallible> {
    // A path that two routes share is refused by both: what the one says about the request counts more than that it is
    // not of the other's method.
    let (status, error) = if rejection.is_not_found() {
        (StatusCode::NOT_FOUND, "there is nothing here; GET / lists what there is")
    } else if rejection.find::<Stranger>().is_some() {
        (StatusCode::FORBIDDEN, "only Home Assistant and this machine may see what happens in the home")
    } else if rejection.find::<warp::reject::PayloadTooLarge>().is_some() {
        (StatusCode::PAYLOAD_TOO_LARGE, "a state of more than 1 MiB is not looked at")
    } else if rejection.find::<warp::reject::LengthRequired>().is_some() {
        (StatusCode::LENGTH_REQUIRED, "say how long the state is: send it with a Content-Length")
    } else if rejection.find::<warp::reject::InvalidQuery>().is_some() {
        (StatusCode::BAD_REQUEST, "the query cannot be understood")
    } else if rejection.find::<warp::reject::MethodNotAllowed>().is_some() {
        (StatusCode::METHOD_NOT_ALLOWED, "")
    } else {
        (StatusCode::BAD_REQUEST, "the request cannot be understood")
    };
    Ok(problem(status, error))
}

fn wrong_method(path: &str) -> Response {
    let (allowed, error) = match path {
        "/api/preview" => ("GET, HEAD, POST", "only GET, HEAD and POST are answered here"),
        "/api/log" => ("GET, HEAD, PUT", "only GET, HEAD and PUT are answered here"),
        "/api/job" => ("GET, HEAD, POST, DELETE", "only GET, HEAD, POST and DELETE are answered here"),
        _ => ("GET, HEAD", "only GET and HEAD are answered here"),
    };
    let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, error);
    response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static(allowed));
    response
}

fn json(status: StatusCode, body: &impl Serialize) -> Response {
    warp::reply::with_status(warp::reply::json(body), status).into_response()
}

fn problem(status: StatusCode, error: &str) -> Response {
    json(status, &json!({ "error": error }))
}

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::sync::Arc;
    use std::time::Instant;

    use futures_util::future::{BoxFuture, FutureExt};
    use serde_json::{Value, json};
    use tokio::sync::watch;

    use super::preview::{MOST_BYTES, Preview, Unanswered};
    use super::{State, Surface, routes};
    use crate::dead_letters::Store;
    use crate::model::time::Timestamp;
    use crate::rules::{Actions, Rule, Rules, Selection};
    use crate::status::board::Board;

    fn board() -> Arc<Board> {
        Arc::new(Board::new(Instant::now(), Timestamp::from_micros(0)))
    }

    /// Says of each state how long it is, and knows one entity.
    struct Scales;

    impl Preview for Scales {
        fn of_state(&self, json: &str) -> Result<Value, Unanswered> {
            if json.is_empty() { Err(Unanswered::NoState("empty".to_owned())) } else { Ok(json!(json.len())) }
        }

        fn of_entity(self: Arc<Self>, entity_id: String) -> BoxFuture<'static, Result<Value, Unanswered>> {
            let answer = match &*entity_id {
                "a.b" => Ok(json!(3)),
                "home.away" => Err(Unanswered::HomeAway("away".to_owned())),
                _ => Err(Unanswered::NoEntity("no such entity".to_owned())),
            };
            ready(answer).boxed()
        }
    }

    fn state(board: &Arc<Board>) -> State {
        let mut rules = Rules { events: vec!["zha_event".to_owned()], ..Rules::default() };
        let name = "Power in kW".into();
        rules.rules.push(Rule { name, selection: Selection::default(), actions: Actions::default() });
        let (_, rules) = watch::channel(Arc::new(rules));
        let letters = Store::open("/nowhere/dead-letters", 0);
        State {
            board: Arc::clone(board),
            letters,
            rules,
            preview: Arc::new(Scales),
            jobs: Arc::new(super::jobs::tests::Idle),
            log: crate::runtime::logging::Control::detached(tracing::Level::INFO),
        }
    }

    async fn get(path: &str, board: &Arc<Board>, surface: Surface) -> (u16, String) {
        let answer = warp::test::request().path(path).reply(&routes(surface, &state(board))).await;
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
        let routes = routes(Surface::Everything, &state(&board()));
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

    #[tokio::test]
    async fn strangers_see_nothing_of_the_home() {
        let routes = routes(Surface::Everything, &state(&board()));
        for (from, status) in [("127.0.0.1:7", 200), ("172.30.32.2:7", 200), ("192.168.1.5:7", 403)] {
            for path in ["/api/dead-letters", "/api/rules", "/api/preview?entity_id=a.b"] {
                let request = warp::test::request().path(path).remote_addr(from.parse().unwrap());
                assert_eq!(request.reply(&routes).await.status(), status, "{path} from {from}");
            }
        }
        let stranger = || warp::test::request().remote_addr("10.0.0.9:7".parse().unwrap());
        for (method, path, status) in [
            ("POST", "/api/preview", 403),
            ("GET", "/api/nothing", 403),
            ("DELETE", "/api/rules", 403),
            ("GET", "/health", 200),
        ] {
            assert_eq!(stranger().method(method).path(path).reply(&routes).await.status(), status, "{method} {path}");
        }
    }

    #[tokio::test]
    async fn each_path_says_which_methods_it_answers() {
        let routes = routes(Surface::Everything, &state(&board()));
        for (method, path, status, allowed) in [
            ("DELETE", "/api/preview", 405, Some("GET, HEAD, POST")),
            ("PUT", "/api/job", 405, Some("GET, HEAD, POST, DELETE")),
            ("POST", "/api/log", 405, Some("GET, HEAD, PUT")),
            ("POST", "/api/rules", 405, Some("GET, HEAD")),
            ("POST", "/health", 405, Some("GET, HEAD")),
            ("POST", "/nowhere", 404, None),
            ("POST", "/api/preview/x", 404, None),
        ] {
            let answer = warp::test::request().method(method).path(path).reply(&routes).await;
            assert_eq!(answer.status(), status, "{method} {path}");
            let named = answer.headers().get("allow").map(|value| value.to_str().unwrap());
            assert_eq!(named, allowed, "{method} {path}");
            assert!(serde_json::from_slice::<Value>(answer.body()).unwrap()["error"].is_string(), "{method} {path}");
        }
    }

    #[tokio::test]
    async fn a_state_is_looked_at_if_it_is_one_and_not_too_large() {
        let routes = routes(Surface::Everything, &state(&board()));
        let post = |body: Vec<u8>| warp::test::request().method("POST").path("/api/preview").body(body);
        let most = usize::try_from(MOST_BYTES).unwrap();
        for (body, status, told) in [
            (b"{}".to_vec(), 200, "2"),
            (b"x".repeat(most), 200, "1048576"),
            (b"x".repeat(most + 1), 413, "more than 1 MiB"),
            (b"\xff".to_vec(), 400, "not UTF-8"),
            (Vec::new(), 400, "empty"),
        ] {
            let answer = post(body).reply(&routes).await;
            let body = String::from_utf8_lossy(answer.body());
            assert_eq!(answer.status(), status, "{body}");
            assert!(body.contains(told), "{body}");
        }
        for (query, status, told) in [
            ("?entity_id=a.b", 200, "3"),
            ("?entity_id=a.c", 404, "no such entity"),
            ("?entity_id=home.away", 503, "away"),
            ("", 400, "name an entity"),
        ] {
            let path = format!("/api/preview{query}");
            let answer = warp::test::request().path(&path).reply(&routes).await;
            let body = String::from_utf8_lossy(answer.body());
            assert_eq!(answer.status(), status, "{body}");
            assert!(body.contains(told), "{body}");
        }
    }

    #[tokio::test]
    async fn the_rules_that_are_in_force_are_named() {
        let board = board();
        board.rules.started("/config/rules.yaml", 1, 0, vec!["a warning".to_owned()], Timestamp::from_micros(1));
        board.rules.refused("line 1: no".to_owned(), Timestamp::from_micros(2));
        board.set_unmatched(vec!["nothing".to_owned()]);
        let (status, body) = get("/api/rules", &board, Surface::Everything).await;
        let expected = json!({
            "file": "/config/rules.yaml", "valid": false, "since": "1970-01-01T00:00:00.000002Z", "error": "line 1: no",
            "warnings": ["a warning", "nothing"], "rules": ["Power in kW"], "topics": [], "ignored_topics": [],
            "events": ["zha_event"],
        });
        assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (200, expected));
    }
}
