//! The requests of the three write APIs: all their differences are here.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use url::Url;

use crate::config::settings::Server;

use super::{Dialect, OpenError};

pub(super) const OUR_NAME: &str = concat!("ha-ingestor/", env!("CARGO_PKG_VERSION"));

/// Everything about requests to one server that does not change from one to the next.
pub(super) struct Requests {
    v1: Endpoint,
    v2: Endpoint,
    v3: Endpoint,
    ping: Endpoint,
    health: Endpoint,
    /// Of VictoriaMetrics.
    flags: Endpoint,
    /// Of InfluxDB 2.
    buckets: Endpoint,
}

struct Endpoint {
    uri: Uri,
    authorization: Option<HeaderValue>,
}

impl Requests {
    pub(super) fn to(server: &Server) -> Result<Self, OpenError> {
        let endpoint = |path, query: &[(&str, &str)], authorization: Option<String>| {
            Ok::<_, OpenError>(Endpoint {
                uri: address(&server.url, path, query)?,
                authorization: header(authorization)?,
            })
        };
        let database = server.database.as_str();

        let mut v1_query = vec![("db", database), ("precision", "ns")];
        v1_query.extend(server.retention_policy.iter().map(|policy| ("rp", policy.as_str())));

        // A server of version 2 that was set up as one of version 1 has a bucket named as the database.
        let bucket = if server.bucket.is_empty() { database } else { &server.bucket };
        let mut v2_query = vec![("bucket", bucket), ("precision", "ns")];
        v2_query.extend(server.organization.iter().map(|organization| ("org", organization.as_str())));

        let mut buckets_query = vec![("name", bucket)];
        buckets_query.extend(server.organization.iter().map(|organization| ("org", organization.as_str())));

        // Without a precision the server guesses it from the size of the number.
        let v3_query = [("db", database), ("precision", "nanosecond"), ("accept_partial", "true")];

        Ok(Self {
            v1: endpoint("write", &v1_query, basic(server).or_else(|| token("Token", server)))?,
            v2: endpoint("api/v2/write", &v2_query, token("Token", server).or_else(|| version_1_token(server)))?,
            v3: endpoint("api/v3/write_lp", &v3_query, token("Bearer", server).or_else(|| basic(server)))?,
            ping: endpoint("ping", &[], token("Bearer", server).or_else(|| basic(server)))?,
            health: endpoint("health", &[], token("Bearer", server).or_else(|| basic(server)))?,
            flags: endpoint("flags", &[], basic(server).or_else(|| token("Bearer", server)))?,
            buckets: endpoint("api/v2/buckets", &buckets_query, token("Token", server))?,
        })
    }

    pub(super) fn write(&self, dialect: Dialect, body: Bytes, gzip: bool) -> Request<Full<Bytes>> {
        let endpoint = match dialect {
            Dialect::V1 => &self.v1,
            Dialect::V2 => &self.v2,
            Dialect::V3 => &self.v3,
        };
        let mut request = endpoint.request(Method::POST, body);
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if gzip {
            request.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        request
    }

    pub(super) fn ping(&self) -> Request<Full<Bytes>> {
        self.ping.request(Method::GET, Bytes::new())
    }

    pub(super) fn health(&self) -> Request<Full<Bytes>> {
        self.health.request(Method::GET, Bytes::new())
    }

    pub(super) fn flags(&self) -> Request<Full<Bytes>> {
        self.flags.request(Method::GET, Bytes::new())
    }

    pub(super) fn buckets(&self) -> Request<Full<Bytes>> {
        self.buckets.request(Method::GET, Bytes::new())
    }
}

impl Endpoint {
    fn request(&self, method: Method, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(USER_AGENT, HeaderValue::from_static(OUR_NAME));
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        request
    }
}

/// The path comes after that of the URL, which is a proxy's prefix.
pub(super) fn address(base: &Url, path: &str, query: &[(&str, &str)]) -> Result<Uri, OpenError> {
    let mut url = base.clone();
    url.set_path(&format!("{}/{path}", base.path().trim_end_matches('/')));
    url.set_query(None);
    url.set_fragment(None);
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    // A name and password in the URL would travel on in the request line.
    url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| OpenError::BadAddress)?;
    url.as_str().parse().map_err(|_| OpenError::BadAddress)
}

pub(super) fn token(scheme: &str, server: &Server) -> Option<String> {
    (!server.token.is_empty()).then(|| format!("{scheme} {}", server.token.expose()))
}

pub(super) fn basic(server: &Server) -> Option<String> {
    let username = server.username.as_ref()?;
    Some(format!("Basic {}", base64(format!("{username}:{}", server.password.expose()).as_bytes())))
}

/// How the version 2 API takes a name and a password of version 1.
pub(super) fn version_1_token(server: &Server) -> Option<String> {
    let username = server.username.as_ref()?;
    Some(format!("Token {username}:{}", server.password.expose()))
}

pub(super) fn header(text: Option<String>) -> Result<Option<HeaderValue>, OpenError> {
    let Some(text) = text else { return Ok(None) };
    let mut value = HeaderValue::try_from(text).map_err(|_| OpenError::BadCredential("token or password"))?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0_usize, |bits, byte| bits << 8 | usize::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = ALPHABET[bits >> (18 - 6 * at) & 63];
            text.push(if at <= group.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::header::AUTHORIZATION;

    use super::{Requests, base64};
    use crate::config::secret::Secret;
    use crate::config::settings::{Api, Server, Tls};
    use crate::influx::{Dialect, OpenError};

    fn server(change: impl FnOnce(&mut Server)) -> Server {
        let mut server = Server {
            url: "http://influx.local:8086".parse().unwrap(),
            api: Api::Auto,
            database: "home assistant".into(),
            retention_policy: None,
            username: None,
            password: Secret::default(),
            organization: None,
            bucket: String::new(),
            token: Secret::default(),
            tls: Tls { verify: true, ca_certificate: None },
        };
        change(&mut server);
        server
    }

    fn check(dialect: Dialect, change: impl FnOnce(&mut Server), uri: &str, authorization: Option<&str>) {
        let requests = Requests::to(&server(change)).unwrap();
        let request = requests.write(dialect, Bytes::new(), true);
        assert_eq!(request.uri().to_string(), uri);
        let sent = request.headers().get(AUTHORIZATION).map(|value| value.to_str().unwrap());
        assert_eq!(sent, authorization, "{uri}");
        assert!(!format!("{request:?}").contains("secret"), "credentials do not show");
    }

    #[test]
    fn each_api_has_its_own_address_and_its_own_way_to_identify() {
        let v1 = "http://influx.local:8086/write?db=home+assistant&precision=ns";
        check(Dialect::V1, |_| (), v1, None);
        check(Dialect::V1, |s| s.token = Secret::new("secret"), v1, Some("Token secret"));
        let with_name = |s: &mut Server| {
            s.username = Some("ha".into());
            s.password = Secret::new("secret");
        };
        check(Dialect::V1, with_name, v1, Some("Basic aGE6c2VjcmV0"));
        check(Dialect::V1, |s| s.retention_policy = Some("year".into()), &format!("{v1}&rp=year"), None);
        check(
            Dialect::V2,
            |s| {
                s.bucket = "ha/autogen".into();
                s.organization = Some("home".into());
                s.token = Secret::new("secret");
            },
            "http://influx.local:8086/api/v2/write?bucket=ha%2Fautogen&precision=ns&org=home",
            Some("Token secret"),
        );
        let v2 = "http://influx.local:8086/api/v2/write?bucket=home+assistant&precision=ns";
        check(Dialect::V2, with_name, v2, Some("Token ha:secret"));
        check(
            Dialect::V3,
            |s| s.token = Secret::new("secret"),
            "http://influx.local:8086/api/v3/write_lp?db=home+assistant&precision=nanosecond&accept_partial=true",
            Some("Bearer secret"),
        );
    }

    #[test]
    fn the_path_of_the_url_is_a_prefix_and_its_credentials_stay_behind() {
        let behind_a_proxy = |s: &mut Server| s.url = "https://me:secret@h/influx/?x=1#y".parse().unwrap();
        check(Dialect::V1, behind_a_proxy, "https://h/influx/write?db=home+assistant&precision=ns", None);
    }

    #[test]
    fn a_token_with_a_line_end_is_refused_before_anything_is_sent() {
        let refused = Requests::to(&server(|s| s.token = Secret::new("a\nb"))).err().unwrap();
        assert!(matches!(refused, OpenError::BadCredential(_)));
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        for (plain, encoded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }
}
