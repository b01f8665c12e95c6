//! What kind of server is there, by what it answers to two harmless questions. Pure: `server` asks.
//!
//! | server | `GET /ping` |
//! | --- | --- |
//! | InfluxDB 1.x | 204 (401 if so configured), `X-Influxdb-Version: 1.8.10` |
//! | InfluxDB 2.x | 204, `X-Influxdb-Version: v2.7.1`; `/health` is JSON with `"name":"influxdb"` |
//! | InfluxDB Cloud | 204, perhaps without a version; `X-Influxdb-Build: Cloud` |
//! | InfluxDB 3 | 200 and `X-Influxdb-Version: 3.8.0` with a valid token; without one 401 and no version at all |
//! | VictoriaMetrics | 204, `X-Server-Hostname`, no version (its answers to writes claim to be InfluxDB 1.8.0) |

use hyper::HeaderMap;
use serde::Deserialize;

use super::Dialect;
use super::http::Answered;

pub(super) const VICTORIA_METRICS: &str = "VictoriaMetrics";

/// A server that is known by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) dialect: Dialect,
    /// `InfluxDB 1.6.7`.
    pub(super) name: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Is(Known),
    /// It answers, but cannot work yet.
    NotReady(u16),
    /// One sentence that says what to do.
    Unknown(String),
}

/// By the answer to `GET /ping`. `None`: it did not settle it, ask for `/health`.
pub(super) fn by_ping(ping: &Answered) -> Option<Decision> {
    if is_victoria_metrics(ping) {
        return Some(is(Dialect::V1, VICTORIA_METRICS));
    }
    let build = text(&ping.headers, "x-influxdb-build").unwrap_or_default();
    if build.to_ascii_lowercase().contains("cloud") {
        return Some(is(Dialect::V2, "InfluxDB Cloud"));
    }
    if let Some(version) = text(&ping.headers, "x-influxdb-version") {
        return Some(by_version(version));
    }
    match ping.status {
        401 | 403 => Some(Decision::Unknown(format!(
            "the server does not say what it is without valid credentials ({}): check influxdb.token, \
             influxdb.username and influxdb.password, or name the API in influxdb.api",
            ping.status
        ))),
        408 | 429 | 500.. => Some(Decision::NotReady(ping.status)),
        _ => None,
    }
}

/// By the answer to `GET /ping`.
pub(super) fn is_victoria_metrics(ping: &Answered) -> bool {
    ping.headers.contains_key("x-server-hostname")
}

/// By the answer to `GET /health`.
pub(super) fn by_health(health: &Answered) -> Decision {
    #[derive(Deserialize)]
    struct Health {
        name: String,
        #[serde(default)]
        version: String,
    }
    match serde_json::from_slice::<Health>(&health.body) {
        Ok(health) if health.name == "influxdb" => {
            let version = shortened(health.version.trim_start_matches('v'));
            is(Dialect::V2, format!("InfluxDB {version}").trim_end())
        }
        _ if health.status >= 500 => Decision::NotReady(health.status),
        _ => Decision::Unknown(
            "something answers, but it is neither an InfluxDB nor VictoriaMetrics: check influxdb.url, or name the API \
             in influxdb.api"
                .to_owned(),
        ),
    }
}

fn by_version(version: &str) -> Decision {
    let number = version.trim_start_matches('v');
    let dialect = match number.split('.').next() {
        Some("0" | "1") => Dialect::V1,
        Some("2") => Dialect::V2,
        Some("3") => Dialect::V3,
        _ => {
            return Decision::Unknown(format!(
                "the server is an InfluxDB of an unknown version ({}): name the API in influxdb.api",
                shortened(version)
            ));
        }
    };
    is(dialect, &format!("InfluxDB {}", shortened(number)))
}

fn is(dialect: Dialect, name: &str) -> Decision {
    Decision::Is(Known { dialect, name: name.to_owned() })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// A version is shown to people; a server may call itself anything.
fn shortened(version: &str) -> String {
    version.chars().filter(char::is_ascii_graphic).take(32).collect()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::{Decision, by_health, by_ping};
    use crate::influx::Dialect;
    use crate::influx::http::Answered;

    fn answered(status: u16, headers: &[(&'static str, &'static str)], body: &str) -> Answered {
        let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)));
        Answered { status, headers: headers.collect(), body: body.into() }
    }

    fn check(decision: Option<Decision>, expected: (Dialect, &str)) {
        match decision {
            Some(Decision::Is(known)) => assert_eq!((known.dialect, known.name.as_str()), expected),
            other => panic!("{other:?} instead of {expected:?}"),
        }
    }

    fn ping(status: u16, headers: &[(&'static str, &'static str)]) -> Option<Decision> {
        by_ping(&answered(status, headers, ""))
    }

    #[test]
    fn servers_are_known_by_what_they_answer() {
        let oss = ("x-influxdb-build", "OSS");
        let version = "x-influxdb-version";
        check(ping(204, &[oss, (version, "1.6.7~rc0")]), (Dialect::V1, "InfluxDB 1.6.7~rc0"));
        check(ping(401, &[oss, (version, "1.8.10")]), (Dialect::V1, "InfluxDB 1.8.10"));
        check(ping(204, &[oss, (version, "v2.7.1")]), (Dialect::V2, "InfluxDB 2.7.1"));
        check(ping(204, &[("x-influxdb-build", "Cloud")]), (Dialect::V2, "InfluxDB Cloud"));
        check(ping(200, &[("x-influxdb-build", "Core"), (version, "3.8.0")]), (Dialect::V3, "InfluxDB 3.8.0"));
        check(ping(204, &[("x-server-hostname", "vm")]), (Dialect::V1, "VictoriaMetrics"));
        let health = answered(200, &[], r#"{"name":"influxdb","message":"ready","status":"pass","version":"v2.0.9"}"#);
        check(Some(by_health(&health)), (Dialect::V2, "InfluxDB 2.0.9"));
    }

    #[test]
    fn what_is_not_known_is_said_and_not_guessed() {
        assert_eq!(ping(204, &[]), None);
        assert_eq!(ping(404, &[]), None);
        let page = answered(404, &[], "<html>nginx</html>");
        assert!(matches!(by_health(&page), Decision::Unknown(words) if words.contains("influxdb.url")));
        assert!(matches!(ping(401, &[]), Some(Decision::Unknown(words)) if words.contains("influxdb.token")));
        let future = ping(200, &[("x-influxdb-version", "4.0.0")]);
        assert!(matches!(future, Some(Decision::Unknown(words)) if words.contains("4.0.0")));
        assert_eq!(ping(502, &[]), Some(Decision::NotReady(502)));
        assert_eq!(by_health(&answered(503, &[], "{}")), Decision::NotReady(503));
    }
}
