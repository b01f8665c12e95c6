//! What an answer means for the lines that were sent: the one place that reads statuses and bodies.
//!
//! Faults of the data leave the queue line by line, and only when the server has named the line or refused it alone.
//! Faults of the environment - credentials, a missing database, a proxy, a full disk, a dead network - never cost data.
//! An answer that we do not understand is taken for the environment, unless other lines of the same batch are taken.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

use crate::influx::reply::{NamedLines, Reply, for_people};
use crate::influx::{Answer, Dialect, Sent};
use crate::model::fate::{Rejection, SetAside};
use crate::model::record::Batch;
use crate::model::time::Timestamp;

/// `Retry-After` is believed up to here.
const LONGEST_WAIT: Duration = Duration::from_mins(5);

/// A limit below this is not believed: the server, or a proxy before it, has another problem.
pub(super) const SMALLEST_LIMIT_BYTES: usize = 4 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every line is in the database.
    Stored,
    /// These lines never will be.
    Refused { lines: Vec<Refusal>, others: Others },
    /// At least one line is at fault, and nobody said which: smaller parts will tell.
    Isolate { certain: Certainty, words: String },
    /// Too large for the server.
    Split { limit: SizeLimit, words: String },
    /// Not now. `after`: what the server asked for.
    Retry { after: Option<Duration>, words: String },
    /// Not before a person did something; `words` say what.
    Hold { words: String },
}

/// A line, by its place in the batch, and why it will not be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub line: usize,
    pub reason: Rejection,
    pub words: String,
}

impl Refusal {
    fn is_unfit(&self) -> bool {
        self.reason == Rejection::NoNumber
    }
}

/// What became of the lines that are not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    Stored,
    /// Not stored, or not for certain. Writing a line twice is writing it once.
    SendAgain,
}

/// Whether the fault is surely in the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    Certain,
    /// The server's words are not known to us: the lines are only to blame if others are taken.
    Suspected,
    /// The server failed. A line is only to blame if another is taken between two failures over it.
    Doubted,
}

/// Where the limit that was hit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeLimit {
    /// The server said so.
    Said,
    /// The connection ended while the body was sent, which has other causes too.
    Guessed,
}

impl Verdict {
    /// All that [`Self::label`] says.
    pub const LABELS: [&str; 7] = ["stored", "refused_lines", "isolate", "too_large", "cut_off", "retry", "hold"];

    /// The label of the metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Stored => "stored",
            // The server was not asked to take them.
            Self::Refused { lines, others: Others::Stored } if lines.iter().all(Refusal::is_unfit) => "stored",
            Self::Refused { .. } => "refused_lines",
            Self::Isolate { .. } => "isolate",
            Self::Split { limit: SizeLimit::Said, .. } => "too_large",
            Self::Split { limit: SizeLimit::Guessed, .. } => "cut_off",
            Self::Retry { .. } => "retry",
            Self::Hold { .. } => "hold",
        }
    }
}

/// `now`: the wall clock, for a `Retry-After` that is a date.
#[must_use]
pub fn judge(sent: &Sent, batch: &Batch, now: Timestamp) -> Verdict {
    let verdict = judge_answer(&sent.answer, batch, now);
    if verdict != Verdict::Stored || sent.unfit.is_empty() {
        return verdict;
    }
    let refusal = |(line, reason): &(usize, Rejection)| {
        let words = match reason {
            Rejection::NoNumber => "it has no number, and the database keeps nothing else",
            _ => "it is older than what the database keeps",
        };
        Refusal { line: *line, reason: *reason, words: words.to_owned() }
    };
    Verdict::Refused { lines: sent.unfit.iter().map(refusal).collect(), others: Others::Stored }
}

fn judge_answer(answer: &Answer, batch: &Batch, now: Timestamp) -> Verdict {
    match answer {
        Answer::Reply(reply) => judge_reply(reply, batch, now),
        Answer::Filed | Answer::NoneFit => Verdict::Stored,
        // One line is never too large to be sent before the server objects; then the server would have said so.
        Answer::CutOffWhileSending if batch.len() > 1 => Verdict::Split {
            limit: SizeLimit::Guessed,
            words: "the connection was closed while the batch was sent".to_owned(),
        },
        Answer::CutOffWhileSending => retry(None, "the connection was closed while a line was sent".to_owned()),
        Answer::Nothing { words, .. } => retry(None, words.clone()),
        Answer::NotRecognised(words) => Verdict::Hold { words: words.clone() },
        Answer::Disk { kind, words } => match kind {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory => Verdict::Hold { words: words.clone() },
            _ => retry(None, words.clone()),
        },
    }
}

fn judge_reply(reply: &Reply, batch: &Batch, now: Timestamp) -> Verdict {
    let hold = |advice: &str| Verdict::Hold { words: format!("{advice} ({}: {})", reply.status, reply.words()) };
    match reply.status {
        // A proxy's or a portal's friendly page is not a database that took the lines.
        200..=299 if reply.is_page() => hold("a web page answered instead of the database: check influxdb.url"),
        200..=299 => Verdict::Stored,
        300..=399 => hold("the database is elsewhere: put its final address into influxdb.url"),
        400 | 422 => judge_refusal(reply, batch),
        401 => hold(
            "the database refuses the credentials: check influxdb.token, or influxdb.username and influxdb.password",
        ),
        403 => hold("the credentials may not write into this database: give them the right to"),
        404 => hold("the database does not exist, or not at this address: create it, or check influxdb.url"),
        413 if batch.len() == 1 && batch.bytes().len() < SMALLEST_LIMIT_BYTES => hold(
            "even a single line is too large for the server, or for a proxy before it: raise the limit of its request \
             bodies",
        ),
        413 => Verdict::Split { limit: SizeLimit::Said, words: reply.words() },
        // The first releases of InfluxDB 2 said 500 to what is 422 now.
        500 if reply.message().contains("partial write: ") => judge_refusal(reply, batch),
        500 if reply.message().contains("retention policy not found") => {
            hold("the retention policy does not exist: create it, or correct influxdb.retention_policy")
        }
        408 | 429 | 499 | 500..=599 => retry(
            reply.retry_after.as_deref().and_then(|text| retry_after(text, now)),
            format!("the database answers {}: {}", reply.status, reply.words()),
        ),
        _ => hold("the database does not take writes like ours: check influxdb.url and influxdb.api"),
    }
}

/// What only complaints about lines say. The last two are limits of InfluxDB 3: a line would be a column or a table too
/// many, and those that bring nothing new are taken.
const ABOUT_LINES: [&str; 5] = [
    "unable to parse '",
    "partial write",
    "field type conflict",
    "number of columns per table limit",
    "number of tables limit",
];

/// 400 and 422: some lines are bad, or the request itself is.
fn judge_refusal(reply: &Reply, batch: &Batch) -> Verdict {
    let message = reply.message();
    // Whoever complains about lines repeats what the user called things, and that can be anything.
    let is_about_lines = ABOUT_LINES.iter().any(|words| message.contains(words));
    let is_about_the_request = !is_about_lines && !reply.is_torn() && is_about_the_request(&message);
    if reply.is_page() || is_about_the_request {
        return Verdict::Hold {
            words: format!(
                "the database does not take the request: check the options of influxdb ({}: {})",
                reply.status,
                reply.words()
            ),
        };
    }
    if let Some(named) = reply.named_lines() {
        return judge_named_lines(named, reply, batch);
    }
    if is_about_retention(&message) {
        return judge_retention(reply, &message, batch);
    }
    if message.contains("unable to parse '") {
        return judge_quoted_lines(reply, &message, batch);
    }
    // "rest written", as all partial writes of version 1 and 2; with a rest of none there is nothing to look for.
    if message.contains("partial write: ") && dropped(&message).is_some_and(|dropped| dropped >= batch.len()) {
        return refused((0..batch.len()).collect(), rejection(&message), &reply.words(), Others::Stored);
    }
    let certain = if is_about_lines { Certainty::Certain } else { Certainty::Suspected };
    Verdict::Isolate { certain, words: reply.words() }
}

/// Complaints that no choice of lines would change.
fn is_about_the_request(message: &str) -> bool {
    let complaints = ["database is required", "invalid precision", "gzip", "either orgID or org", "invalid bucket"];
    complaints.iter().any(|words| message.contains(words))
}

/// Two wordings: before and since InfluxDB 1.12 and 2.8.
fn is_about_retention(message: &str) -> bool {
    message.contains("points beyond retention policy") || message.contains("points outside retention policy")
}

/// The server says how many, and which they are follows from their times: that of a record is that of its line. The others are sent again although most
/// likely they are stored: this complaint hides complaints about other lines.
fn judge_retention(reply: &Reply, message: &str, batch: &Batch) -> Verdict {
    let words = reply.words();
    match dropped(message) {
        // Then it was something else, and sending the same again would change nothing.
        Some(0) => Verdict::Isolate { certain: Certainty::Suspected, words },
        // There is a bound for the future as well, in the newer servers.
        Some(dropped) if dropped >= batch.len() || !message.contains("Upper Bound") => {
            refused(batch.oldest(dropped), Rejection::Expired, &words, Others::SendAgain)
        }
        _ => Verdict::Isolate { certain: Certainty::Certain, words },
    }
}

/// InfluxDB 3.
fn judge_named_lines(named: NamedLines, reply: &Reply, batch: &Batch) -> Verdict {
    let (named, others) = match named {
        NamedLines::All(lines) => (lines, Others::Stored),
        NamedLines::First(line) => (vec![line], Others::SendAgain),
    };
    let mut lines: Vec<Refusal> = named
        .iter()
        .filter(|line| (1..=batch.len()).contains(&line.line_number))
        .map(|line| Refusal {
            line: line.line_number - 1,
            reason: rejection(&line.error_message),
            words: for_people(&line.error_message),
        })
        .collect();
    if lines.is_empty() || lines.len() < named.len() {
        return Verdict::Isolate { certain: Certainty::Certain, words: reply.words() };
    }
    lines.sort_by_key(|refusal| refusal.line);
    lines.dedup_by_key(|refusal| refusal.line);
    Verdict::Refused { lines, others }
}

/// InfluxDB 1 and 2: `unable to parse 'LINE': REASON`, one after the other.
fn judge_quoted_lines(reply: &Reply, message: &str, batch: &Batch) -> Verdict {
    const MARK: &str = "unable to parse '";
    // A line that holds the end of a quote many times would make this slow, and is found by halving as well.
    const ENDS: usize = 16;
    let mut places: HashMap<&[u8], Vec<usize>> = HashMap::new();
    for (at, record) in batch.records().enumerate() {
        places.entry(record.bytes.strip_suffix(b"\n").unwrap_or(record.bytes)).or_default().push(at);
    }
    let mut lines = Vec::new();
    let mut all_found = true;
    for (at, _) in message.match_indices(MARK) {
        let quoted = &message[at + MARK.len()..];
        // A line may hold what ends the quote: the first end that makes a line of ours is the right one.
        let found = quoted.match_indices("': ").take(ENDS).find_map(|(end, _)| {
            let reason = quoted[end + 3..].lines().next().unwrap_or_default();
            Some((places.remove(&quoted.as_bytes()[..end])?, reason))
        });
        match found {
            // Lines that are the same byte for byte have the same fate.
            Some((same, reason)) => lines.extend(same.into_iter().map(|line| Refusal {
                line,
                reason: Rejection::SetAside(SetAside::Unparsable),
                words: format!("unable to parse the line: {}", for_people(reason)),
            })),
            None => all_found = false,
        }
    }
    if lines.is_empty() {
        return Verdict::Isolate { certain: Certainty::Certain, words: reply.words() };
    }
    lines.sort_by_key(|refusal| refusal.line);
    // Only version 1 stores the good lines of a batch with bad ones.
    let stored = all_found && reply.dialect == Dialect::V1 && message.starts_with("partial write: ");
    Verdict::Refused { lines, others: if stored { Others::Stored } else { Others::SendAgain } }
}

/// The kind of a complaint about a line.
pub(super) fn rejection(words: &str) -> Rejection {
    let is_about = |marks: &[&str]| marks.iter().any(|mark| words.contains(mark));
    Rejection::SetAside(if is_about(&["field type conflict", "invalid column type", "schema conflict"]) {
        SetAside::TypeConflict
    } else if is_about(&["unable to parse", "invalid number", "trailing content", "parse error"]) {
        SetAside::Unparsable
    } else {
        SetAside::RefusedByDatabase
    })
}

fn refused(lines: Vec<usize>, reason: Rejection, words: &str, others: Others) -> Verdict {
    let lines = lines.into_iter().map(|line| Refusal { line, reason, words: words.to_owned() });
    Verdict::Refused { lines: lines.collect(), others }
}

fn retry(after: Option<Duration>, words: String) -> Verdict {
    Verdict::Retry { after, words }
}

/// The `N` of `dropped=N`.
fn dropped(message: &str) -> Option<usize> {
    let number = &message[message.rfind("dropped=")? + "dropped=".len()..];
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Seconds, whole or not, or a date; at most five minutes.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    let wait = match text.parse::<f64>() {
        Ok(seconds) if seconds.is_nan() => return None,
        Ok(seconds) => Duration::try_from_secs_f64(seconds.min(LONGEST_WAIT.as_secs_f64())).ok()?,
        Err(_) => {
            let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
            let now = Duration::from_micros(now.as_micros().try_into().ok()?);
            date.saturating_sub(now)
        }
    };
    Some(wait.min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::{Certainty, Others, SizeLimit, Verdict, judge, judge_answer, retry_after};
    use crate::influx::reply::Reply;
    use crate::influx::{Answer, Dialect, Fault, Sent};
    use crate::model::fate::Rejection;
    use crate::model::record::Batch;
    use crate::model::record::Record;
    use crate::model::time::Timestamp;

    /// 2026-11-23T15:45:00Z.
    const NOW: Timestamp = Timestamp::from_micros(1_795_448_700_000_000);

    /// The event of line `n` happened `n` microseconds before the one ahead of it: the last line is the oldest.
    fn batch(lines: &[&str]) -> Batch {
        let mut batch = Batch::default();
        for (at, line) in lines.iter().enumerate() {
            let time = Timestamp::from_micros(1_000_000 - i64::try_from(at).unwrap());
            batch.push(at as u64, Record { time, context: None, bytes: format!("{line}\n").as_bytes() });
        }
        batch
    }

    fn said(dialect: Dialect, status: u16, body: &str, lines: &[&str]) -> Verdict {
        let reply = Reply { dialect, status, retry_after: None, body: body.into() };
        judge_answer(&Answer::Reply(reply), &batch(lines), NOW)
    }

    /// A verdict without its words.
    fn kind(verdict: &Verdict) -> String {
        match verdict {
            Verdict::Stored => "stored".into(),
            Verdict::Refused { lines, others } => {
                let lines: Vec<usize> = lines.iter().map(|refusal| refusal.line).collect();
                format!("refused {lines:?}, others {}", if *others == Others::Stored { "stored" } else { "again" })
            }
            Verdict::Isolate { certain: Certainty::Certain, .. } => "isolate".into(),
            Verdict::Isolate { certain: Certainty::Suspected, .. } => "suspect".into(),
            Verdict::Isolate { certain: Certainty::Doubted, .. } => "doubt".into(),
            Verdict::Split { limit: SizeLimit::Said, .. } => "split".into(),
            Verdict::Split { limit: SizeLimit::Guessed, .. } => "split, perhaps".into(),
            Verdict::Retry { .. } => "retry".into(),
            Verdict::Hold { .. } => "hold".into(),
        }
    }

    const V1: Dialect = Dialect::V1;
    const V2: Dialect = Dialect::V2;
    const V3: Dialect = Dialect::V3;
    const GOOD: &[&str] = &["m v=1 1", "m v=2 2", "m v=3 3"];
    const WITH_BAD: &[&str] = &["m v=1 1", "this is bad", "m v=3 3"];

    #[test]
    #[expect(clippy::too_many_lines, reason = "one row for each answer")]
    fn every_answer_has_its_verdict() {
        let page = "<html><body>502 Bad Gateway</body></html>";
        let conflict = r#"{"error":"partial write: field type conflict: input field \"v\" on measurement \"m\" is type string, already exists as type float dropped=1"}"#;
        let conflict_2 = r#"{"code":"unprocessable entity","message":"failure writing points to database: partial write: field type conflict: input field \"v\" on measurement \"m\" is type string, already exists as type float dropped=1"}"#;
        let table: &[(Dialect, u16, &str, &str)] = &[
            (V1, 204, "", "stored"),
            (V1, 200, r#"{"results":[]}"#, "stored"),
            (V2, 204, "", "stored"),
            (V3, 204, "", "stored"),
            (V1, 200, page, "hold"),
            // One bad line.
            (
                V1,
                400,
                r#"{"error":"partial write: unable to parse 'this is bad': invalid field format dropped=0"}"#,
                "refused [1], others stored",
            ),
            (
                V1,
                400,
                r#"{"error":"unable to parse 'this is bad': invalid field format"}"#,
                "refused [1], others again",
            ),
            (
                V1,
                400,
                r#"{"error":"partial write: unable to parse 'not ours': invalid field format dropped=0"}"#,
                "isolate",
            ),
            (
                V1,
                400,
                r#"{"error":"partial write: unable to parse 'this is bad': x\nunable to parse 'not ours': y dropped=0"}"#,
                "refused [1], others again",
            ),
            (
                V1,
                400,
                r#"{"error":"partial write: unable to parse 'this is bad'#, "isolate"),
            (V2, 400, r#"{"code":"invalid","message":"unable to parse 'm v=1 1': x\nunable to parse 'this is bad': y"}"#,
                "refused [0, 1], others again",
            ),
            (
                V3,
                400,
                r#"{"error":"partial write of line protocol occurred","data":[{"original_line":"m v=1 1","line_number":2,"error_message":"bad"}]}"#,
                "refused [1], others stored",
            ),
            (
                V3,
                400,
                r#"{"error":"parsing failed","data":{"original_line":"x","line_number":2,"error_message":"bad"}}"#,
                "refused [1], others again",
            ),
            (
                V3,
                400,
                r#"{"error":"partial write of line protocol occurred","data":[{"line_number":4,"error_message":"bad"}]}"#,
                "isolate",
            ),
            (V3, 400, r#"{"error":"partial write of line protocol occurred","data":[{"line_number":0}]}"#, "isolate"),
            (V3, 400, r#"{"error":"partial write of line protocol occurred","data":[]}"#, "isolate"),
            // Type conflicts, which name no line.
            (V1, 400, conflict, "isolate"),
            (V1, 400, &conflict.replace("dropped=1", "dropped=3"), "refused [0, 1, 2], others stored"),
            (V2, 422, conflict_2, "isolate"),
            (V2, 500, conflict_2, "isolate"),
            (
                V1,
                400,
                r#"{"error":"partial write: max-values-per-tag limit exceeded (1/1): measurement=\"m\" tag=\"t\" value=\"v\" dropped=1"}"#,
                "isolate",
            ),
            // Words of the user's that a complaint about the request has too.
            (
                V1,
                400,
                &conflict.replace(r#"measurement \"m\""#, r#"measurement \"sensor.nginx_gzip_hits\""#),
                "isolate",
            ),
            (
                V1,
                400,
                r#"{"error":"partial write: unable to parse 'm v=invalid precision': invalid number dropped=0"}"#,
                "isolate",
            ),
            (V2, 400, r#"{"code":"invalid","message":"unable to parse 'm v=gzip': invalid number"}"#, "isolate"),
            (V3, 400, r#"{"error":"parsing failed","data":{"original_line":"m v=gzip"#, "suspect"),
            (
                V3,
                422,
                r#"{"error":"update to schema would exceed number of columns per table limit of 500"}"#,
                "isolate",
            ),
            (V3, 422, r#"{"error":"adding a new database would exceed limit of 100 databases"}"#, "suspect"),
            // Too old: the oldest lines.
            (
                V1,
                400,
                r#"{"error":"partial write: points beyond retention policy dropped=2"}"#,
                "refused [1, 2], others again",
            ),
            (
                V1,
                400,
                r#"{"error":"partial write: points beyond retention policy dropped=3"}"#,
                "refused [0, 1, 2], others again",
            ),
            (
                V2,
                422,
                r#"{"message":"failure writing points to database: partial write: dropped 1 points outside retention policy of duration 2h0m0s - oldest point m at 2023-01-04T00:00:00Z dropped because it violates a Retention Policy Lower Bound at X, newest point m at Y dropped=1 for database: a for retention policy: autogen"}"#,
                "refused [2], others again",
            ),
            (
                V2,
                422,
                r#"{"message":"partial write: dropped 1 points outside retention policy of duration 2h0m0s - violates a Retention Policy Upper Bound dropped=1"}"#,
                "isolate",
            ),
            (V1, 400, r#"{"error":"partial write: points beyond retention policy"}"#, "isolate"),
            (V1, 400, r#"{"error":"partial write: points beyond retention policy dropped=0"}"#, "suspect"),
            // The request, not the lines.
            (V1, 400, r#"{"error":"database is required"}"#, "hold"),
            (V1, 400, r#"{"error":"gzip: invalid header"}"#, "hold"),
            (V1, 400, "remoteAddr: x; cannot read gzipped influx line protocol data: gzip: invalid header", "hold"),
            (V1, 400, r#"{"error":"invalid precision \"zz\" (use n, u, ms, s, m or h)"}"#, "hold"),
            (V2, 400, r#"{"code":"invalid","message":"Please provide either orgID or org"}"#, "hold"),
            (V1, 400, "<html>The plain HTTP request was sent to HTTPS port</html>", "hold"),
            (V1, 400, "too long line: more than 262144 bytes", "suspect"),
            (V3, 400, "", "suspect"),
            // The environment.
            (V1, 301, "", "hold"),
            (V1, 302, page, "hold"),
            (V1, 401, r#"{"error":"authorization failed"}"#, "hold"),
            (V3, 401, "", "hold"),
            (V2, 403, r#"{"code":"forbidden","message":"insufficient permissions for write"}"#, "hold"),
            (V1, 404, r#"{"error":"database not found: \"nope\""}"#, "hold"),
            (V2, 404, r#"{"code":"not found","message":"bucket \"x\" not found"}"#, "hold"),
            (V1, 404, "404 page not found", "hold"),
            (V1, 405, "", "hold"),
            (V1, 406, "", "hold"),
            (V1, 415, "", "hold"),
            (V1, 418, "", "hold"),
            (V1, 500, r#"{"error":"retention policy not found: nope"}"#, "hold"),
            (V1, 413, r#"{"error":"Request Entity Too Large"}"#, "split"),
            (V2, 413, "<html>413 Request Entity Too Large</html>", "split"),
            (V2, 408, "", "retry"),
            (V2, 429, r#"{"code":"too many requests","message":"limit"}"#, "retry"),
            (V2, 499, "", "retry"),
            (V1, 500, r#"{"error":"timeout"}"#, "retry"),
            (V1, 500, r#"{"error":"engine: error writing WAL entry: write x: no space left on device"}"#, "retry"),
            (V2, 500, r#"{"code":"internal error","message":"internal error"}"#, "retry"),
            (V2, 502, page, "retry"),
            (V1, 503, "request throttled, queue full", "retry"),
            (V1, 504, "", "retry"),
        ];
        for (dialect, status, body, expected) in table {
            let lines = if body.contains("this is bad") { WITH_BAD } else { GOOD };
            assert_eq!(kind(&said(*dialect, *status, body, lines)), *expected, "{dialect:?} {status} {body}");
        }
    }

    #[test]
    fn what_is_no_reply_costs_no_data() {
        let table: &[(Answer, &str)] = &[
            (Answer::Filed, "stored"),
            (Answer::CutOffWhileSending, "split, perhaps"),
            (Answer::Nothing { fault: Fault::TimedOut, words: "x".into() }, "retry"),
            (Answer::Nothing { fault: Fault::Tls, words: "x".into() }, "retry"),
            (Answer::NotRecognised("x".into()), "hold"),
            (Answer::Disk { kind: io::ErrorKind::StorageFull, words: "x".into() }, "hold"),
            (Answer::Disk { kind: io::ErrorKind::PermissionDenied, words: "x".into() }, "hold"),
            (Answer::Disk { kind: io::ErrorKind::Other, words: "x".into() }, "retry"),
        ];
        for (answer, expected) in table {
            assert_eq!(kind(&judge_answer(answer, &batch(GOOD), NOW)), *expected, "{answer:?}");
        }
        let one = judge_answer(&Answer::CutOffWhileSending, &batch(&["m v=1 1"]), NOW);
        assert_eq!(kind(&one), "retry", "a restart of the server must not cost a line");
    }

    #[test]
    fn a_limit_that_no_line_meets_is_not_believed() {
        assert_eq!(kind(&said(V2, 413, "", &["m v=1 1"])), "hold");
        let long = format!("m v=\"{}\" 1", "x".repeat(5_000));
        assert_eq!(kind(&said(V2, 413, "", &[&long])), "split");
    }

    #[test]
    fn a_batch_that_was_cut_off_is_not_counted_as_too_large() {
        assert_eq!(judge_answer(&Answer::CutOffWhileSending, &batch(GOOD), NOW).label(), "cut_off");
        assert_eq!(said(V1, 413, "", GOOD).label(), "too_large");
    }

    #[test]
    fn a_quoted_line_is_found_whatever_it_holds() {
        let hard = r#"m,a=it's v="he said: 'no': unable to parse 'x': y",w="<&>""#;
        let message = format!(
            "partial write: unable to parse '{hard}': invalid number\nunable to parse 'b': bad timestamp dropped=0"
        );
        let body = serde_json::to_string(&serde_json::json!({ "error": message })).unwrap();
        let Verdict::Refused { lines, .. } = said(V1, 400, &body, &["a", hard, "b", hard]) else { panic!("{body}") };
        let lines: Vec<(usize, &str)> = lines.iter().map(|refusal| (refusal.line, refusal.words.as_str())).collect();
        let number = "unable to parse the line: invalid number";
        assert_eq!(lines, [(1, number), (2, "unable to parse the line: bad timestamp"), (3, number)]);
    }

    #[test]
    fn what_is_too_old_is_expired_and_not_refused() {
        let expired = r#"{"error":"partial write: points beyond retention policy dropped=1"}"#;
        let Verdict::Refused { lines, .. } = said(V1, 400, expired, GOOD) else { panic!() };
        assert_eq!(lines[0].reason, Rejection::Expired);
    }

    #[test]
    fn the_wait_that_a_server_asks_for_is_kept_up_to_five_minutes() {
        let table: &[(&str, Option<u64>)] = &[
            ("17", Some(17_000)),
            (" 1.5 ", Some(1_500)),
            ("0", Some(0)),
            ("999999999999", Some(300_000)),
            ("inf", Some(300_000)),
            ("-1", None),
            ("nan", None),
            ("", None),
            ("soon", None),
            ("Mon, 23 Nov 2026 15:45:30 GMT", Some(30_000)),
            ("Mon, 23 Nov 2026 15:44:00 GMT", Some(0)),
            ("Tue, 24 Nov 2026 15:45:00 GMT", Some(300_000)),
        ];
        for (text, millis) in table {
            assert_eq!(retry_after(text, NOW), millis.map(Duration::from_millis), "{text:?}");
        }
        let reply = Reply { dialect: V1, status: 503, retry_after: Some("7".into()), body: Vec::new() };
        let verdict = judge_answer(&Answer::Reply(reply), &batch(GOOD), NOW);
        assert!(matches!(verdict, Verdict::Retry { after: Some(after), .. } if after == Duration::from_secs(7)));
    }

    #[test]
    fn no_words_of_a_verdict_hold_the_users_data() {
        let body = r#"{"error":"partial write: unable to parse 'secret v=': missing field value dropped=0"}"#;
        let cut = r#"{"error":"partial write of line protocol occurred","data":[{"original_line":"secret v="#;
        for (dialect, status, body) in [(V1, 400, body), (V3, 400, cut), (V3, 500, cut), (V3, 401, cut)] {
            for lines in [&["secret v="], &["another"]] {
                let verdict = said(dialect, status, body, lines);
                assert!(!format!("{verdict:?}").contains("secret"), "{verdict:?}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn any_answer_has_a_verdict(status in 200..600_u16, body in ".{0,200}", dialect in 0..3_usize) {
            let verdict = said([V1, V2, V3][dialect], status, &body, GOOD);
            proptest::prop_assert_ne!(verdict, Verdict::Refused { lines: Vec::new(), others: Others::SendAgain });
        }
    }

    #[test]
    fn lines_that_were_not_sent_have_their_reasons_once_the_others_are_stored() {
        let unfit = vec![(0, Rejection::NoNumber), (2, Rejection::Expired)];
        let sent = |answer| Sent { answer, bytes: 0, unfit: unfit.clone() };
        let Verdict::Refused { lines, others: Others::Stored } = judge(&sent(Answer::Filed), &batch(GOOD), NOW) else {
            panic!("the others are stored")
        };
        assert_eq!(lines.iter().map(|line| (line.line, line.reason)).collect::<Vec<_>>(), unfit);
        let broken = judge(&sent(Answer::CutOffWhileSending), &batch(GOOD), NOW);
        assert_eq!(broken.label(), "cut_off", "nothing is decided before they are");
        let texts = Sent { answer: Answer::NoneFit, bytes: 0, unfit: vec![(0, Rejection::NoNumber)] };
        assert_eq!(judge(&texts, &batch(GOOD), NOW).label(), "stored", "nobody refused anything");
    }
}
