//! `/api/dead-letters`: the lines that databases refused and the events that never became lines, newest first.

use std::convert::Infallible;

use serde::Deserialize;
use tokio::task::spawn_blocking;
use warp::http::StatusCode;
use warp::reply::Response;

use crate::dead_letters::Store;

use super::{json, problem};

/// The most that one answer holds: letters are short, but not always.
const MOST: usize = 1_000;

#[derive(Deserialize)]
pub(super) struct Query {
    /// Only those of this target; `-` for events that never became a line.
    target: Option<String>,
    /// At most so many; 100 if nothing is said, never more than 1000.
    limit: Option<usize>,
}

pub(super) async fn list(query: Query, letters: Store) -> Result<Response, Infallible> {
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
