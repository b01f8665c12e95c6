//! From what was typed to what is true.
//!
//! Each part returns its settings and reports what is wrong. After a fault the value is a stand-in that nobody sees, so
//! that the parts after it are judged as well.

pub(crate) mod filter;
mod home_assistant;
mod mqtt;
mod targets;

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use url::Url;

use super::Machine;
use super::faults::{Faults, shown};
use super::options::{self, Options};
use super::secret::Secret;
use super::settings::{Breaker, Delivery, History, Log, Place, RegistryTag, Schema, Settings, Tls};
use crate::runtime::backoff::Policy;
use crate::spool::Bounds;

/// How long a target may take for what was sent to it before it goes to the disk as well.
const LATE: Duration = Duration::from_secs(5);

/// Where the Supervisor mounts the user's certificates.
const CERTIFICATES: &str = "/ssl";

impl Settings {
    pub(super) fn check(options: Options, place: Place, machine: &Machine<'_>, faults: &mut Faults) -> Self {
        let log = Log { level: options.log.level.into(), format: options.log.format, file: options.log.file };
        let home_assistant = home_assistant::check(options.home_assistant, machine, faults);
        let targets = targets::check(options.influxdb, options.mirrors, machine, faults);
        let filter = filter::check(options.filter, faults);
        let schema = schema(options.schema, faults);
        let events = events(options.events, faults);
        let mqtt = mqtt::check(options.mqtt, machine, faults);
        let delivery = delivery(&options.delivery, faults);
        let spool = spool(&options.delivery, delivery.linger, faults);
        let options::History { close_gaps, import_on_first_start, skip_restored } = options.history;
        let history = History { close_gaps, import_on_first_start, skip_restored };
        Self { log, home_assistant, targets, filter, schema, events, mqtt, delivery, spool, history, place }
    }
}

fn schema(typed: options::Schema, faults: &mut Faults) -> Schema {
    let tags = tags(&typed.tags, faults);
    no_empty_item("schema.tags_attributes", &typed.tags_attributes, faults);
    no_empty_item("schema.ignore_attributes", &typed.ignore_attributes, faults);
    Schema {
        measurement: typed.measurement,
        default_measurement: given(typed.default_measurement),
        override_measurement: given(typed.override_measurement),
        tags,
        tags_attributes: typed.tags_attributes,
        ignore_attributes: typed.ignore_attributes,
        registry_tags: registry_tags(typed.registry_tags),
    }
}

fn registry_tags(mut typed: Vec<RegistryTag>) -> Vec<RegistryTag> {
    typed.sort_unstable();
    typed.dedup();
    typed
}

/// Changes of states come anyway, and not as events of this kind.
fn events(typed: Vec<String>, faults: &mut Faults) -> Vec<String> {
    const KEY: &str = "events";
    no_empty_item(KEY, &typed, faults);
    for event in ["state_changed", "state_reported", "*"] {
        if typed.iter().any(|known| known == event) {
            faults.also_at(KEY, format_args!("`{event}` cannot be asked for: changes of states are written anyway"));
        }
    }
    typed
}

fn tags(typed: &[String], faults: &mut Faults) -> Vec<(String, String)> {
    const KEY: &str = "schema.tags";
    let mut tags: Vec<(String, String)> = Vec::new();
    for tag in typed {
        match tag.split_once('=').map(|(key, value)| (key.trim(), value.trim())) {
            Some((key, _)) if tags.iter().any(|(earlier, _)| earlier == key) => {
                faults.also_at(KEY, format_args!("`{}` is there twice", shown(key)));
            }
            Some((key, value)) if !key.is_empty() && !value.is_empty() => tags.push((key.to_owned(), value.to_owned())),
            _ => faults.also_at(KEY, format_args!("`{}` must look like key=value", shown(tag))),
        }
    }
    tags
}

fn delivery(typed: &options::Delivery, faults: &mut Faults) -> Delivery {
    const MOST_WAIT_MS: u32 = 3_600_000;
    const BATCH_BYTES: NonZeroUsize = NonZeroUsize::new(1 << 20).expect("a mebibyte is not zero");
    let initial = whole("delivery.retry_initial_ms", typed.retry_initial_ms, 10..=MOST_WAIT_MS, faults);
    let max = whole("delivery.retry_max_ms", typed.retry_max_ms, 10..=MOST_WAIT_MS, faults);
    if initial > max && !faults.is_broken("delivery.retry_max_ms") {
        faults.at("delivery.retry_initial_ms", format_args!("{initial} is more than delivery.retry_max_ms, {max}"));
    }
    Delivery {
        linger: milliseconds(whole("delivery.linger_ms", typed.linger_ms, 0..=60_000, faults)),
        batch_points: not_zero(whole("delivery.batch_points", typed.batch_points, 1..=100_000, faults)),
        batch_bytes: BATCH_BYTES,
        compression: typed.compression,
        retry: Policy { first: milliseconds(initial), longest: milliseconds(max) },
        request_timeout: Duration::from_secs(
            whole("delivery.request_timeout_seconds", typed.request_timeout_seconds, 1..=600, faults).into(),
        ),
        requests_per_second: NonZeroU32::new(whole(
            "delivery.requests_per_second",
            typed.requests_per_second,
            0..=1000,
            faults,
        )),
        breaker: breaker(typed, faults),
    }
}

fn breaker(typed: &options::Delivery, faults: &mut Faults) -> Breaker {
    let failures = whole("delivery.breaker_failures", typed.breaker_failures, 1..=1000, faults);
    let seconds = whole("delivery.breaker_open_seconds", typed.breaker_open_seconds, 1..=3600, faults);
    Breaker {
        failures: NonZeroU32::new(failures).expect("the range begins at 1"),
        open_for: Duration::from_secs(seconds.into()),
    }
}

/// To the user, how records are kept is a part of how they are delivered.
fn spool(typed: &options::Delivery, linger: Duration, faults: &mut Faults) -> Bounds {
    let on_disk = whole("delivery.spool_megabytes", typed.spool_megabytes, 1..=65_536, faults);
    let in_memory = whole("delivery.memory_megabytes", typed.memory_megabytes, 1..=1024, faults);
    Bounds {
        durability: typed.durability,
        // What waits for company on purpose is not late.
        age: linger + LATE,
        disk_bytes: NonZeroU64::new(u64::from(on_disk) << 20).expect("the range begins at 1"),
        memory_bytes: not_zero(in_memory << 20),
    }
}

/// The number if it is in the range, else the nearest that is.
fn whole(key: &str, typed: i64, range: RangeInclusive<u32>, faults: &mut Faults) -> u32 {
    let (least, most) = range.into_inner();
    match u32::try_from(typed) {
        Ok(number) if (least..=most).contains(&number) => number,
        _ => {
            faults.at(key, format_args!("must be from {least} to {most}, not {typed}"));
            if typed < least.into() { least } else { most }
        }
    }
}

/// For numbers whose range begins at 1.
fn not_zero(number: u32) -> NonZeroUsize {
    usize::try_from(number).ok().and_then(NonZeroUsize::new).expect("a checked size fits, and is at least 1")
}

fn milliseconds(number: u32) -> Duration {
    Duration::from_millis(number.into())
}

/// An option left empty was not given.
fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn no_empty_item(key: &str, items: &[String], faults: &mut Faults) {
    if items.iter().any(|item| item.trim().is_empty()) {
        faults.at(key, "has an empty item: remove it");
    }
}

/// An address without a login, query or fragment. Reports by `key`, and never shows the address: it may hold a password.
fn address(key: &str, text: &str, schemes: &[&str], faults: &mut Faults) -> Option<Url> {
    let schemes_then = schemes.join("://, ");
    let Ok(url) = Url::parse(text.trim()) else {
        faults.at(key, format_args!("is not an address: begin with one of {schemes_then}://, then host and port"));
        return None;
    };
    if !schemes.contains(&url.scheme()) {
        faults.at(key, format_args!("must begin with one of {schemes_then}://"));
        return None;
    }
    if url.query().is_some() || url.fragment().is_some() {
        faults.at(key, "must end before `?` and `#`: other options say the rest");
        return None;
    }
    Some(url)
}

/// A token goes into a header line. What a copy brings along is the usual reason why one is refused.
fn token(key: &str, token: &Secret, faults: &mut Faults) {
    if !token.expose().chars().all(|letter| letter.is_ascii_graphic()) {
        faults.at(key, "has a space, a line break or another letter that no token has: copy it again");
    }
}

/// `section` has the options `verify_tls` and `ca_certificate`.
fn tls(section: &str, verify: bool, certificate: &str, machine: &Machine<'_>, faults: &mut Faults) -> Tls {
    if certificate.is_empty() {
        return Tls { verify, ca_certificate: None };
    }
    // An absolute path replaces the folder.
    let path = Path::new(CERTIFICATES).join(certificate);
    if let Err(error) = (machine.read)(&path) {
        let key = format!("{section}.ca_certificate");
        faults.at(&key, format_args!("cannot read {}: {error}", shown(&path.to_string_lossy())));
    }
    Tls { verify, ca_certificate: Some(path) }
}
