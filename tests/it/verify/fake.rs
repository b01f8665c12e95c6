//! Servers of InfluxDB 2 and 3 for one story: they take line protocol, keep its points, and answer the questions of our
//! reader and no other ones.
//!
//! What they understand is written down here once more, from what the real ones say, and without the code that asks:
//! [`flux`](super::flux) and [`sql`](super::sql) read the question, or the server answers that it cannot.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use flate2::read::MultiGzDecoder;
use serde_json::{Value, json};

use super::{DATABASE, flux, sql};
use crate::points::{Field, Fields, Place, Points, Series};
use crate::support::readers::{read_as_influxdb_1, read_as_influxdb_3};
use crate::support::reading;

pub const TOKEN: &str = "s3cret-of-the-home==";
pub const ORGANIZATION: &str = "the & home";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V2,
    V3,
}

/// How the answers to questions end too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// They are shorter than they said.
    Short,
    /// In the middle of a row, behind a proxy which did not notice.
    InARow,
    /// After a row, behind the same proxy.
    AfterARow,
}

pub struct Fake {
    pub version: Version,
    pub url: String,
    kept: Arc<Mutex<Kept>>,
}

#[derive(Default)]
pub struct Kept {
    pub points: Points,
    /// Every point that was written, in the order of writing.
    pub written: Vec<(Place, Fields)>,
    pub cut: Option<Cut>,
    /// Questions for points that were answered.
    pub answered: usize,
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

struct Answer {
    status: u16,
    headers: &'static str,
    body: String,
    /// It is a question's.
    may_be_cut: bool,
}

impl Fake {
    pub fn start(version: Version) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let kept = Arc::<Mutex<Kept>>::default();
        let served = Arc::clone(&kept);
        // It ends with the test.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let kept = Arc::clone(&served);
                thread::spawn(move || serve(version, &stream, &kept));
            }
        });
        Self { version, url, kept }
    }

    /// The section `influxdb` of the options.
    pub fn options(&self, token: &str) -> Value {
        match self.version {
            Version::V2 => {
                json!({"url": self.url, "bucket": DATABASE, "organization": ORGANIZATION, "token": token})
            }
            Version::V3 => json!({"url": self.url, "database": DATABASE, "token": token}),
        }
    }

    pub fn with<T>(&self, work: impl FnOnce(&mut Kept) -> T) -> T {
        work(&mut self.kept.lock().unwrap())
    }
}

fn serve(version: Version, stream: &TcpStream, kept: &Mutex<Kept>) {
    let Some(request) = read(stream) else { return };
    let mut kept = kept.lock().unwrap();
    let answer = match version {
        Version::V2 => answer_as_2(&request, &mut kept),
        Version::V3 => answer_as_3(&request, &mut kept),
    };
    send(stream, &answer, kept.cut.filter(|_| answer.may_be_cut));
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    stream.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    if headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
        let packed = std::mem::take(&mut body);
        MultiGzDecoder::new(&packed[..]).read_to_end(&mut body).ok()?;
    }
    Some(Request { method, path: path.to_owned(), query, headers, body })
}

fn send(mut stream: &TcpStream, answer: &Answer, cut: Option<Cut>) {
    let Answer { status, headers, body, .. } = answer;
    // In the middle of all rows, in those that are known by their times.
    let middle = body[..body.len() / 2].rfind('\n').map_or(0, |end| end + 1);
    let (length, sent) = match cut {
        None => (Some(body.len()), body.len()),
        Some(Cut::Short) => (Some(body.len()), middle),
        Some(Cut::InARow) => (None, (middle + 60).min(body.len())),
        Some(Cut::AfterARow) => (None, middle),
    };
    let length =
        length.filter(|_| *status != 204).map_or(String::new(), |length| format!("Content-Length: {length}\r\n"));
    let mut bytes = format!("HTTP/1.1 {status} X\r\n{headers}{length}Connection: close\r\n\r\n").into_bytes();
    bytes.extend_from_slice(&body.as_bytes()[..sent]);
    let _ = stream.write_all(&bytes);
}

fn answer(status: u16, headers: &'static str, body: &(impl Display + ?Sized)) -> Answer {
    Answer { status, headers, body: body.to_string(), may_be_cut: false }
}

/// As InfluxDB 2 says that something is wrong.
fn refused_by_2(status: u16, code: &str, message: &(impl Display + ?Sized)) -> Answer {
    answer(status, "Content-Type: application/json\r\n", &json!({"code": code, "message": message.to_string()}))
}

fn answer_as_2(request: &Request, kept: &mut Kept) -> Answer {
    const VERSION: &str = "X-Influxdb-Build: OSS\r\nX-Influxdb-Version: v2.7.11\r\n";
    let said = |name: &str| request.query.get(name).map(String::as_str);
    let is_known = request.headers.get("authorization").is_some_and(|said| *said == format!("Token {TOKEN}"));
    match (&*request.method, &*request.path) {
        ("GET", "/ping") => answer(204, VERSION, ""),
        (_, "/api/v2/write" | "/api/v2/query") if !is_known => refused_by_2(401, "unauthorized", "unauthorized access"),
        (_, "/api/v2/write" | "/api/v2/query") if said("org") != Some(ORGANIZATION) => {
            refused_by_2(404, "not found", "organization not found")
        }
        ("POST", "/api/v2/write") => match (said("bucket"), said("precision")) {
            (Some(DATABASE), Some("ns")) => match lines(request, read_as_influxdb_1) {
                Ok(points) => keep(points, kept),
                Err(words) => refused_by_2(400, "invalid", &words),
            },
            (bucket, _) => refused_by_2(404, "not found", &format!("bucket {bucket:?} not found")),
        },
        ("POST", "/api/v2/query") => {
            let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            let dialect = json!({"header": true, "annotations": [], "delimiter": ","});
            if (&body["type"], &body["dialect"]) != (&json!("flux"), &dialect) {
                return refused_by_2(400, "invalid", &format!("failed to decode request: {body}"));
            }
            match flux::answer(body["query"].as_str().unwrap_or_default(), DATABASE, &kept.points) {
                Ok(csv) => {
                    kept.answered += 1;
                    Answer { may_be_cut: true, ..answer(200, "Content-Type: text/csv; charset=utf-8\r\n", &csv) }
                }
                Err(words) => refused_by_2(400, "invalid", &words),
            }
        }
        _ => refused_by_2(404, "not found", "path not found"),
    }
}

fn answer_as_3(request: &Request, kept: &mut Kept) -> Answer {
    const VERSION: &str = "X-Influxdb-Version: 3.8.0\r\n";
    if request.headers.get("authorization").is_none_or(|said| *said != format!("Bearer {TOKEN}")) {
        return answer(401, "", "");
    }
    let said = |name: &str| request.query.get(name).map(String::as_str);
    let refused =
        |words: String| answer(400, "Content-Type: application/json\r\n", &json!({"error": words, "data": null}));
    match (&*request.method, &*request.path) {
        ("GET", "/ping") => answer(200, VERSION, &json!({"version": "3.8.0"})),
        ("POST", "/api/v3/write_lp") => match (said("db"), said("precision")) {
            (Some(DATABASE), Some("nanosecond")) => match lines(request, read_as_influxdb_3) {
                Ok(points) if points.is_empty() => refused("incoming write was empty".to_owned()),
                Ok(points) => keep(points, kept),
                Err(words) => refused(words),
            },
            other => refused(format!("{other:?}")),
        },
        ("POST", "/api/v3/query_sql") => {
            let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
            if (&body["db"], &body["format"]) != (&json!(DATABASE), &json!("jsonl")) {
                return answer(404, "", &json!({"error": format!("database not found: {body}")}));
            }
            match sql::answer(body["q"].as_str().unwrap_or_default(), &kept.points) {
                Ok(sql::Rows { of_points, rows }) => {
                    kept.answered += usize::from(of_points);
                    Answer { may_be_cut: of_points, ..answer(200, "Content-Type: application/jsonl\r\n", &rows) }
                }
                Err(words) => refused(words),
            }
        }
        _ => answer(404, "", ""),
    }
}

type ReadLine = fn(&str) -> Result<reading::Reading, String>;

fn lines(request: &Request, read: ReadLine) -> Result<Vec<(Place, Fields)>, String> {
    let body = str::from_utf8(&request.body).map_err(|err| err.to_string())?;
    body.lines().map(|line| read(line).map(point)).collect()
}

fn point(read: reading::Reading) -> (Place, Fields) {
    let field = |value| match value {
        reading::Value::Float(number) => Field::Number(number),
        #[expect(clippy::cast_precision_loss, reason = "small numbers of a simulated home")]
        reading::Value::Integer(number) => Field::Number(number as f64),
        reading::Value::Boolean(truth) => Field::Boolean(truth),
        reading::Value::Text(text) => Field::Text(text),
    };
    let fields = read.fields.into_iter().map(|(name, value)| (name, field(value))).collect();
    (Place { series: Series { measurement: read.measurement, tags: read.tags }, time: read.nanos }, fields)
}

/// A point at the place of another one adds its fields to it.
fn keep(points: Vec<(Place, Fields)>, kept: &mut Kept) -> Answer {
    for (place, fields) in points {
        kept.points.entry(place.clone()).or_default().extend(fields.clone());
        kept.written.push((place, fields));
    }
    answer(204, "", "")
}
