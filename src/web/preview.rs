//! `/api/preview`: what would be written for a state under the rules that are in force.
//!
//! GET asks Home Assistant for the state of an entity, POST brings one along. Nothing is written, and the pipeline that
//! runs does not notice.

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::Value;
use warp::http::StatusCode;
use warp::hyper::body::Bytes;
use warp::reply::Response;

use super::{json, problem};

/// What a state may take. Home Assistant's own database keeps at most 16 KiB of attributes.
pub(super) const MOST_BYTES: u64 = 1 << 20;

/// Whoever knows the rules.
pub trait Preview: Send + Sync {
    /// Of a state in JSON, as Home Assistant gives it.
    fn of_state(&self, json: &str) -> Result<Value, Unanswered>;

    /// Of the state that this entity has now. Takes seconds at most.
    fn of_entity(self: Arc<Self>, entity_id: String) -> BoxFuture<'static, Result<Value, Unanswered>>;
}

/// Why there is no answer, in the user's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered {
    /// What was sent is no state, or no name of an entity.
    NoState(String),
    /// Home Assistant knows no such entity.
    NoEntity(String),
    /// Home Assistant could not be asked.
    HomeAway(String),
}

#[derive(Deserialize)]
pub(super) struct Query {
    entity_id: Option<String>,
}

pub(super) async fn of_entity(query: Query, preview: Arc<dyn Preview>) -> Result<Response, Infallible> {
    Ok(match query.entity_id {
        Some(entity_id) => reply(preview.of_entity(entity_id).await),
        None => problem(StatusCode::BAD_REQUEST, "name an entity, such as /api/preview?entity_id=sensor.kitchen"),
    })
}

pub(super) async fn of_state(body: Bytes, preview: Arc<dyn Preview>) -> Result<Response, Infallible> {
    Ok(match str::from_utf8(&body) {
        Ok(state) => reply(preview.of_state(state)),
        Err(_) => problem(StatusCode::BAD_REQUEST, "not a state as Home Assistant gives it: not UTF-8"),
    })
}

fn reply(answer: Result<Value, Unanswered>) -> Response {
    match answer {
        Ok(told) => json(StatusCode::OK, &told),
        Err(Unanswered::NoState(words)) => problem(StatusCode::BAD_REQUEST, &words),
        Err(Unanswered::NoEntity(words)) => problem(StatusCode::NOT_FOUND, &words),
        Err(Unanswered::HomeAway(words)) => problem(StatusCode::SERVICE_UNAVAILABLE, &words),
    }
}
