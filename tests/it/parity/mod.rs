//! One Home Assistant, its own `influxdb` integration and ours: the same changes must become the same points.

mod compare;
mod stimulus;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use ha_ingestor::runtime::clock;
use serde_json::json;

use crate::ingestor::Ingestor;
use crate::peers::home_assistant::{Change, HomeAssistant, Load, Setup};
use crate::peers::prometheus;
use crate::points::{Points, field_types, points};
use crate::support::influxd::Influxd;
use crate::support::process::wait_until;

use self::compare::{NotFinite, compare};

const BUILTIN: &str = "builtin";
const OURS: &str = "ours";

/// Longer than either side ever holds a point back: Home Assistant waits for a second of silence.
const QUIET: Duration = Duration::from_secs(4);

#[test]
fn the_built_in_integration_and_we_write_the_same_points() {
    let Some(influxd) = Influxd::start() else { return };
    influxd.create_database(BUILTIN);
    influxd.create_database(OURS);
    let setup = Setup { demo: true, influxdb: Some((influxd.address.port(), BUILTIN)), ..Setup::default() };
    let Some(home) = HomeAssistant::start(setup) else { return };
    let mut ingestor = Ingestor::start(&json!({
        "home_assistant": {"url": home.url(), "token": home.token()},
        "influxdb": {"url": influxd.url(), "api": "v1", "database": OURS},
        // The built-in integration writes nothing but states.
        "events": [],
    }));
    ingestor.wait_until_ready();

    wait_until_both_listen(&home, &influxd);
    let from = clock::now().as_nanos();
    stimulus::call_services(&home);
    stimulus::set_states(&home);
    let ledger = home.load(Load { count: 2_000, rate: 200, entities: 300, seed: 1, nasty: true });
    let to = clock::now().as_nanos();

    let (builtin, ours) = wait_until_quiet(|| (points(&influxd, BUILTIN, from, to), points(&influxd, OURS, from, to)));
    let report = compare(&builtin, &ours, &not_finite(&ledger));
    // Past the capture of the test harness: how far the two agree is a result, not noise.
    writeln!(io::stderr(), "{report}").unwrap();
    assert!(report.points > 2_000, "the home was too quiet to prove anything: {} points", report.points);
    assert!(report.differences.is_empty(), "{} differences", report.differences.len());
    assert_eq!(shared_types(&influxd, OURS, BUILTIN), shared_types(&influxd, BUILTIN, OURS));

    prometheus::check_metrics(&ingestor.metrics());
    ingestor.stop();
}

fn not_finite(ledger: &[Change]) -> NotFinite {
    let changes = ledger.iter().filter(|change| change.state.parse().is_ok_and(|number: f64| !number.is_finite()));
    changes.map(|change| (change.entity_id.clone(), change.micros * 1_000)).collect()
}

/// Changes something until both databases have heard of it.
fn wait_until_both_listen(home: &HomeAssistant, influxd: &Influxd) {
    for database in [BUILTIN, OURS] {
        let mut level = 0;
        wait_until(&format!("a change arrives in {database}"), Duration::from_mins(1), || {
            level += 1;
            home.call("input_number.set_value", &json!({"entity_id": "input_number.level", "value": level}));
            let points = points(influxd, database, 0, i64::MAX);
            points.keys().any(|place| place.series.measurement == "W").then_some(())
        });
    }
}

/// The points of both, once neither has got another one for [`QUIET`].
fn wait_until_quiet(mut ask: impl FnMut() -> (Points, Points)) -> (Points, Points) {
    let mut last = ask();
    let mut since = Instant::now();
    wait_until("both databases are quiet", Duration::from_mins(1), || {
        let now = ask();
        if now != last {
            last = now;
            since = Instant::now();
        }
        (since.elapsed() > QUIET).then(|| last.clone())
    })
}

/// The types of those fields of `database` that `other` has too.
fn shared_types(influxd: &Influxd, database: &str, other: &str) -> BTreeMap<(String, String), String> {
    let other = field_types(influxd, other);
    field_types(influxd, database).into_iter().filter(|(field, _)| other.contains_key(field)).collect()
}
