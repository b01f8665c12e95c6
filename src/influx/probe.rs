//! Tries a target without writing to it, for the `check` command: is it there, what is it, would it take our lines?

use crate::config::settings;

use super::file::Archive;
use super::reply::Reply;
use super::server::Server;
use super::{Answer, Dialect};

/// One thing that was tried, in the order of trying. Nothing follows what failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub about: About,
    pub good: bool,
    /// One sentence: what is there, or what to do.
    pub words: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Certificates, credentials and addresses can be used at all.
    Settings,
    /// Something answers, and it is known.
    Server,
    /// It would take a write of ours into this database.
    Writing,
}

pub async fn probe(target: &settings::Target, delivery: &settings::Delivery) -> Vec<Finding> {
    match target {
        settings::Target::Server(options) => match Server::open(options, delivery) {
            Ok(mut server) => ask(&mut server, options).await,
            Err(err) => vec![bad(About::Settings, err.to_string())],
        },
        settings::Target::Archive(folder) => {
            let archive = Archive::new(folder.clone(), delivery.request_timeout);
            match archive.try_writing().await {
                Ok(()) => vec![good(About::Writing, archive.describe())],
                Err(answer) => vec![bad(About::Writing, why_not(&answer))],
            }
        }
    }
}

async fn ask(server: &mut Server, options: &settings::Server) -> Vec<Finding> {
    let dialect = match server.dialect().await {
        Ok(dialect) => dialect,
        Err(answer) => return vec![bad(About::Server, why_not(&answer))],
    };
    match server.write_nothing(dialect).await {
        Ok(reply) => vec![good(About::Server, server.describe()), admitted(&reply, options)],
        Err(answer) => vec![bad(About::Server, why_not(&answer))],
    }
}

/// What the answer to an empty write says about a write.
///
/// InfluxDB 1 and VictoriaMetrics answer 204. InfluxDB 2 and 3 complain that there is nothing to write, but only after
/// they looked at credentials and bucket.
fn admitted(reply: &Reply, options: &settings::Server) -> Finding {
    let message = reply.message();
    let (what, name) = match reply.dialect {
        Dialect::V2 if !options.bucket.is_empty() => ("bucket", &options.bucket),
        Dialect::V2 => ("bucket", &options.database),
        Dialect::V1 | Dialect::V3 => ("database", &options.database),
    };
    let nothing_to_write = ["incoming write was empty", "requires points", "no points"];
    match reply.status {
        200..=299 if !reply.is_page() => good(About::Writing, format!("takes writes into the {what} `{name}`")),
        400 if nothing_to_write.iter().any(|words| message.contains(words)) => {
            good(About::Writing, format!("takes writes into the {what} `{name}`"))
        }
        401 => bad(
            About::Writing,
            "the credentials are refused (401): check influxdb.token, or influxdb.username and influxdb.password"
                .to_owned(),
        ),
        403 => bad(
            About::Writing,
            format!("the credentials may not write into the {what} `{name}` (403): give them the right to"),
        ),
        404 if message.contains("not found") && !message.contains("page not found") => bad(
            About::Writing,
            format!("there is no {what} `{name}` ({}): create it, or correct influxdb.{what}", reply.words()),
        ),
        500 if message.contains("retention policy not found") => bad(
            About::Writing,
            format!(
                "the {what} `{name}` has no such retention policy: create it, or correct influxdb.retention_policy"
            ),
        ),
        404 | 405 => bad(
            About::Writing,
            format!("the server does not know this API ({}): check influxdb.url and influxdb.api", reply.status),
        ),
        300..=399 => bad(
            About::Writing,
            format!("the server sends us elsewhere ({}): put its final address into influxdb.url", reply.status),
        ),
        status => bad(About::Writing, format!("the server answers {status}: {}", reply.words())),
    }
}

pub(super) fn why_not(answer: &Answer) -> String {
    match answer {
        Answer::Nothing { words, .. } | Answer::NotRecognised(words) | Answer::Disk { words, .. } => words.clone(),
        Answer::Reply(reply) => format!("the server answers {}: {}", reply.status, reply.words()),
        Answer::CutOffWhileSending | Answer::Filed | Answer::NoneFit => "the connection broke".to_owned(),
    }
}

fn good(about: About, words: String) -> Finding {
    Finding { about, good: true, words }
}

fn bad(about: About, words: String) -> Finding {
    Finding { about, good: false, words }
}
