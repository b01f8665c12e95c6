//! Where to write to, and as whom.

use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::Url;

use super::super::Machine;
use super::super::faults::Faults;
use super::super::options;
use super::super::secret::Secret;
use super::super::settings::{Api, Server, Target};
use super::{address, given, tls, token};

const KEY: &str = "influxdb.url";
/// The community's InfluxDB add-on, by the name that it has in the Supervisor's network.
const ADD_ON: &str = "http://a0d7b954-influxdb:8086";

pub(super) fn check(mut typed: options::InfluxDb, machine: &Machine<'_>, faults: &mut Faults) -> Option<Target> {
    let text = typed.url.trim().to_owned();
    if text.starts_with("file:") {
        // The other options are about servers.
        return folder(&text, faults).map(Target::Archive);
    }
    let url = match (text.is_empty(), machine.supervisor_token()) {
        (false, _) => server(&text, &mut typed, faults),
        (true, Some(_)) => Some(Url::parse(ADD_ON).expect("the add-on's address is a URL")),
        (true, None) => None,
    };
    let tls = tls("influxdb", typed.verify_tls, &typed.ca_certificate, machine, faults);
    token("influxdb.token", &typed.token, faults);
    needs(&typed, faults);
    // A server that turns out to speak v2 after all has a bucket where the others have a database.
    let bucket = match typed.api {
        Api::Auto if typed.bucket.is_empty() => typed.database.clone(),
        _ => typed.bucket,
    };
    Some(Target::Server(Server {
        url: url?,
        api: typed.api,
        database: typed.database,
        retention_policy: given(typed.retention_policy),
        username: given(typed.username),
        password: typed.password,
        organization: given(typed.organization),
        bucket,
        token: typed.token,
        tls,
    }))
}

/// What must not be empty, given the rest.
fn needs(typed: &options::InfluxDb, faults: &mut Faults) {
    match (typed.username.is_empty(), typed.password.is_empty()) {
        (false, true) => faults.at("influxdb.password", "is empty, but influxdb.username is set: give both or neither"),
        (true, false) => faults.at("influxdb.username", "is empty, but influxdb.password is set: give both or neither"),
        _ => {}
    }
    if typed.api == Api::V2 {
        let needed = [
            ("influxdb.organization", typed.organization.is_empty()),
            ("influxdb.bucket", typed.bucket.is_empty()),
            ("influxdb.token", typed.token.is_empty()),
        ];
        for (key, _) in needed.into_iter().filter(|(_, is_empty)| *is_empty) {
            faults.at(key, "is empty, but influxdb.api v2 needs it");
        }
    } else if typed.database.is_empty() {
        faults.at("influxdb.database", "is empty: only influxdb.api v2 goes without it");
    }
}

fn folder(text: &str, faults: &mut Faults) -> Option<PathBuf> {
    let url = address(KEY, text, &["file"], faults)?;
    // `file://share/x` would be the folder `/x` of a machine called `share`.
    let path = if text.starts_with("file:///") { url.to_file_path().ok() } else { None };
    if path.is_none() {
        faults.at(KEY, "must have three slashes after `file:`, like file:///share/influxdb");
    }
    path
}

/// The server's address without the login, which moves to where logins are kept: a URL is shown in many places.
fn server(text: &str, typed: &mut options::InfluxDb, faults: &mut Faults) -> Option<Url> {
    let mut url = address(KEY, text, &["http", "https"], faults)?;
    let username = decoded(url.username());
    let password = decoded(url.password().unwrap_or_default());
    let (Some(username), Some(password)) = (username, password) else {
        faults.at(KEY, "holds a login that is not UTF-8: use influxdb.username and influxdb.password");
        return None;
    };
    if !username.is_empty() {
        move_login(username, &mut typed.username, String::is_empty, "influxdb.username", faults);
    }
    if !password.is_empty() {
        move_login(Secret::new(password), &mut typed.password, Secret::is_empty, "influxdb.password", faults);
    }
    url.set_username("").expect("an http URL has room for a user");
    url.set_password(None).expect("an http URL has room for a password");
    Some(url)
}

fn move_login<T: PartialEq>(from: T, to: &mut T, is_empty: fn(&T) -> bool, key: &str, faults: &mut Faults) {
    if is_empty(to) {
        *to = from;
    } else {
        faults.at(KEY, format_args!("holds a login, and so does {key}: remove it from the URL"));
    }
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}
