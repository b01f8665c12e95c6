//! Where to write to, and as whom: `influxdb`, and mirrors that get everything as well.

use std::iter;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use url::Url;

use super::super::Machine;
use super::super::faults::Faults;
use super::super::options;
use super::super::secret::Secret;
use super::super::settings::{Api, NamedTarget, Server, Target};
use super::{address, given, tls, token};

const INFLUXDB: &str = "influxdb";
/// The community's InfluxDB add-on, by the name that it has in the Supervisor's network.
const ADD_ON: &str = "http://a0d7b954-influxdb:8086";

/// In the order in which they were typed. Mirrors are counted from 1, as people do.
pub(super) fn check(
    influxdb: options::InfluxDb,
    mirrors: Vec<options::InfluxDb>,
    machine: &Machine<'_>,
    faults: &mut Faults,
) -> Vec<NamedTarget> {
    let influxdb = (INFLUXDB.to_owned(), INFLUXDB.to_owned(), influxdb);
    let mirrors =
        (1..).zip(mirrors).map(|(number, typed)| (format!("mirrors.{number}"), format!("mirror_{number}"), typed));
    let mut sections: Vec<String> = Vec::new();
    let mut targets: Vec<NamedTarget> = Vec::new();
    for (section, name, typed) in iter::once(influxdb).chain(mirrors) {
        // It was no group of options; the defaults that stand in for it say nothing.
        if faults.is_broken(&section) {
            continue;
        }
        let Some(place) = target(&section, typed, machine, faults) else { continue };
        let identity = place.identity();
        if let Some(earlier) = targets.iter().position(|earlier| earlier.place.identity() == identity) {
            let problem = format_args!(
                "leads to the same place as {}: give another address, database or bucket, or remove one of them",
                sections[earlier]
            );
            faults.at(&format!("{section}.url"), problem);
        }
        sections.push(section);
        targets.push(NamedTarget { name, place });
    }
    targets
}

/// The options of one target. `section` is what the names of its options begin with.
fn target(section: &str, mut typed: options::InfluxDb, machine: &Machine<'_>, faults: &mut Faults) -> Option<Target> {
    let text = typed.url.trim().to_owned();
    if text.starts_with("file:") {
        // The other options are about servers.
        return folder(section, &text, faults).map(Target::Archive);
    }
    let url = match (text.is_empty(), machine.supervisor_token()) {
        (false, _) => server(section, &text, &mut typed, faults),
        (true, _) if section != INFLUXDB => {
            faults.at(&format!("{section}.url"), "is empty: a mirror needs an address");
            None
        }
        (true, Some(_)) => Some(Url::parse(ADD_ON).expect("the add-on's address is a URL")),
        (true, None) => None,
    };
    let tls = tls(section, typed.verify_tls, &typed.ca_certificate, machine, faults);
    token(&format!("{section}.token"), &typed.token, faults);
    needs(section, &typed, faults);
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
fn needs(section: &str, typed: &options::InfluxDb, faults: &mut Faults) {
    let both = |other: &str| format!("is empty, but {section}.{other} is set: give both or neither");
    match (typed.username.is_empty(), typed.password.is_empty()) {
        (false, true) => faults.at(&format!("{section}.password"), both("username")),
        (true, false) => faults.at(&format!("{section}.username"), both("password")),
        _ => {}
    }
    if typed.api == Api::V2 {
        let needed = [
            ("organization", typed.organization.is_empty()),
            ("bucket", typed.bucket.is_empty()),
            ("token", typed.token.is_empty()),
        ];
        for (name, _) in needed.into_iter().filter(|(_, is_empty)| *is_empty) {
            faults.at(&format!("{section}.{name}"), format_args!("is empty, but {section}.api v2 needs it"));
        }
    } else if typed.database.is_empty() {
        let problem = format_args!("is empty: only {section}.api v2 goes without it");
        faults.at(&format!("{section}.database"), problem);
    }
}

fn folder(section: &str, text: &str, faults: &mut Faults) -> Option<PathBuf> {
    let key = format!("{section}.url");
    let url = address(&key, text, &["file"], faults)?;
    // `file://share/x` would be the folder `/x` of a machine called `share`.
    let path = if text.starts_with("file:///") { url.to_file_path().ok() } else { None };
    if path.is_none() {
        faults.at(&key, "must have three slashes after `file:`, like file:///share/influxdb");
    }
    path
}

/// The server's address without the login, which moves to where logins are kept: a URL is shown in many places.
fn server(section: &str, text: &str, typed: &mut options::InfluxDb, faults: &mut Faults) -> Option<Url> {
    let key = format!("{section}.url");
    let mut url = address(&key, text, &["http", "https"], faults)?;
    let username = decoded(url.username());
    let password = decoded(url.password().unwrap_or_default());
    let (Some(username), Some(password)) = (username, password) else {
        let problem = format_args!("holds a login that is not UTF-8: use {section}.username and {section}.password");
        faults.at(&key, problem);
        return None;
    };
    let has_two = |name| format!("holds a login, and so does {section}.{name}: remove it from the URL");
    if !username.is_empty() && !replace_empty(&mut typed.username, username, String::is_empty) {
        faults.at(&key, has_two("username"));
    }
    if !password.is_empty() && !replace_empty(&mut typed.password, Secret::new(password), Secret::is_empty) {
        faults.at(&key, has_two("password"));
    }
    url.set_username("").expect("an http URL has room for a user");
    url.set_password(None).expect("an http URL has room for a password");
    Some(url)
}

/// False: there was something already.
fn replace_empty<T>(place: &mut T, with: T, is_empty: fn(&T) -> bool) -> bool {
    let was_empty = is_empty(place);
    if was_empty {
        *place = with;
    }
    was_empty
}

fn decoded(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}
