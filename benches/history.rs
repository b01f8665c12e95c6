//! Measures history: an import of a million rows from a real recorder, a `verify` of all of them, and a gap of ten minutes.
//!
//! `cargo bench --bench history -- [import] [verify] [gap]` (`verify` runs `import` first)
//!
//! Home Assistant and InfluxDB are the real ones (`make peers`). Home Assistant makes the first 25,000 rows and the tables;
//! the others are copies of them in the same tables, spread over nine days: making all would take six minutes.

#![allow(clippy::disallowed_methods, reason = "a bench waits for other processes, and is told where they are")]
#![allow(unreachable_pub, reason = "nothing is reachable from outside of a bench")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "figures for a person, and helpers of the tests")]

#[allow(dead_code, reason = "the tests need all that it can do")]
#[path = "../tests/it/peers/home_assistant.rs"]
mod home_assistant;

#[path = "../tests/support"]
#[allow(dead_code, reason = "the tests need all that it can do")]
mod support {
    pub(crate) mod http;
    pub(crate) mod influxd;
    pub(crate) mod page;
    pub(crate) mod peer;
    pub(crate) mod process;
    pub(crate) mod skip;
}

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use ha_ingestor::config::secret::Secret;
use ha_ingestor::config::settings::{HomeAssistant as Settings, Tls};
use ha_ingestor::history::recorder::Recorder;
use ha_ingestor::ingest::hass::visit::Visit;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use self::home_assistant::{Change, HomeAssistant, Load, Setup, python};
use self::support::http;
use self::support::influxd::{Influxd, identifier};
use self::support::page::Page;
use self::support::process::{free_address, wait_until};

const ROWS: usize = 1_000_000;
/// By Home Assistant itself; the others are copies of them. Its recorder gives up when 65,000 rows wait for it.
const ROWS_MADE: usize = 25_000;
const ENTITIES: u32 = 300;
/// Ten minutes at 50 events/s.
const GAP_ROWS: usize = 30_000;
const DATABASE: &str = "home_assistant";
const DATABASE_FILE: &str = "home-assistant_v2.db";
const PATIENCE: Duration = Duration::from_mins(15);

/// Copies the rows that Home Assistant made until there are so many, each copy later than the one before, and spreads all of
/// them over the nine days that end ten minutes ago. Prints the first and the last second, and how many there are.
const MULTIPLY: &str = "
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1])
wanted = int(sys.argv[2])
# The tables are Home Assistant's own: what belongs to a row is copied, whatever it is. A row's predecessor is not asked for.
times = ['last_updated_ts', 'last_changed_ts', 'last_reported_ts']
same = [row[1] for row in db.execute('PRAGMA table_info(states)') if row[1] not in times + ['state_id', 'old_state_id']]
low, high, made, newest = db.execute(
    'SELECT MIN(last_updated_ts), MAX(last_updated_ts), COUNT(*), MAX(state_id) FROM states').fetchone()
for copy in range(1, -(-wanted // made)):
    later = ', '.join(f'{time} + {copy * (high - low + 1)}' for time in times)
    db.execute(f'INSERT INTO states ({', '.join(same + times)}) SELECT {', '.join(same)}, {later} FROM states'
               ' WHERE state_id <= ? ORDER BY state_id LIMIT ?', (newest, wanted - copy * made))
low, high, rows = db.execute('SELECT MIN(last_updated_ts), MAX(last_updated_ts), COUNT(*) FROM states').fetchone()
end = time.time() - 600
start = end - 9 * 86400
scale = (end - start) / (high - low)
db.execute('UPDATE states SET ' + ', '.join(f'{time} = {start!r} + ({time} - {low!r}) * {scale!r}' for time in times))
db.commit()
print(int(start) - 1, int(end) + 1, rows)
";

fn main() -> anyhow::Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |chapter: &str| wanted.is_empty() || wanted.iter().any(|word| word == chapter);
    let runtime = Runtime::new()?;
    say("Home Assistant and InfluxDB start");
    let Some(influxd) = Influxd::start() else { return Ok(()) };
    let Some(mut home) = HomeAssistant::start(Setup { recorder: true, ..Setup::default() }) else { return Ok(()) };
    influxd.create_database(DATABASE);
    if is_wanted("import") || is_wanted("verify") {
        past(&runtime, &mut home, &influxd, is_wanted("verify"))?;
    }
    if is_wanted("gap") {
        gap(&runtime, &home, &influxd).context("gap")?;
    }
    Ok(())
}

/// What the bench is doing, for whoever waits for it.
fn say(what: &str) {
    static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    println!("{:4.0} s: {what}", BEGIN.get_or_init(Instant::now).elapsed().as_secs_f64());
}

/// Rows per second, what they cost us and Home Assistant, and how fast what happens meanwhile is stored.
fn past(runtime: &Runtime, home: &mut HomeAssistant, influxd: &Influxd, verifies: bool) -> anyhow::Result<()> {
    let (from, until, rows) = give_rows(runtime, home)?;
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut service = Ours::service(&folder.path().join("service"), home, influxd)?;
    service.wait_until_ready();

    say("20 s without an import");
    let quiet = watch(runtime, home, influxd, &mut || quiet_for(Duration::from_secs(20)));
    let quiet = quiet.context("without an import")?;
    let at = |seconds: i64| ha_ingestor::model::time::Timestamp::from_micros(seconds * 1_000_000).to_string();
    let mut seen = vec![("with nothing beside", quiet)];
    for command in ["import", "verify"].into_iter().take(1 + usize::from(verifies)) {
        say(&format!("{command} begins"));
        let arguments = [command, "--from", &at(from), "--to", &at(until)];
        let ours = Ours::start(&folder.path().join(command), home, influxd, &arguments)?;
        seen.push((command, measure(runtime, home, influxd, ours, rows).context(command)?));
    }
    println!("\n{:<52} {:>10} {:>10}", "ms", "median", "longest");
    for (what, seen) in seen {
        let [ping, live] = [seen.pings, seen.live].map(|mut times| {
            times.sort();
            let ms = |time: Option<&Duration>| time.map_or(f64::NAN, |time| time.as_secs_f64() * 1e3);
            (ms(times.get(times.len() / 2)), ms(times.last()))
        });
        println!("{:<52} {:>10.1} {:>10.1}", format!("{what}: Home Assistant answers a ping"), ping.0, ping.1);
        println!("{:<52} {:>10.0} {:>10.0}", format!("{what}: a state is in InfluxDB"), live.0, live.1);
    }
    Ok(())
}

/// Runs a command over `rows` rows and prints its cost. Returns the latencies seen meanwhile.
fn measure(
    runtime: &Runtime,
    home: &HomeAssistant,
    influxd: &Influxd,
    mut ours: Ours,
    rows: u64,
) -> anyhow::Result<Seen> {
    let home_before = processor(home.process_id())?;
    let over = AtomicBool::new(false);
    let (busy, cost) = thread::scope(|scope| {
        let costing = scope.spawn(|| {
            let cost = ours.cost_until_the_end();
            over.store(true, Ordering::SeqCst);
            cost
        });
        let busy = watch(runtime, home, influxd, &mut || over.load(Ordering::SeqCst));
        (busy, costing.join().expect("it does not panic"))
    });
    let (busy, cost) = (busy?, cost?);
    let home_seconds = processor(home.process_id())? - home_before;
    #[expect(clippy::cast_precision_loss, reason = "figures for a person")]
    let millions = rows as f64 / 1e6;
    println!("\n{rows} rows, beside a service that runs");
    println!("{:<52} {:>10.2}", "CPU s of Home Assistant / CPU s of ours", home_seconds / cost.processor);
    println!("{:<52} {:>10.1}", "seconds", cost.took.as_secs_f64());
    println!("{:<52} {:>10.0}", "rows/s", millions * 1e6 / cost.took.as_secs_f64());
    println!("{:<52} {:>10.2}", "CPU s of ours / 1 M rows", cost.processor / millions);
    println!("{:<52} {:>10.2}", "CPU s of Home Assistant / 1 M rows", home_seconds / millions);
    println!("{:<52} {:>10.1}", "peak memory of ours, MiB", f64::from(cost.peak_kib) / 1024.0);
    Ok(busy)
}

/// From the start of the service to the moment when it says that no gap is open.
fn gap(runtime: &Runtime, home: &HomeAssistant, influxd: &Influxd) -> anyhow::Result<()> {
    // What was imported is not to be counted.
    influxd.query("", &format!("DROP DATABASE {}", identifier(DATABASE)));
    influxd.create_database(DATABASE);
    let folder = TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut service = Ours::service(folder.path(), home, influxd)?;
    service.wait_until_ready();
    home.set_state("sensor.probe", "1", &json!({}));
    thread::sleep(Duration::from_secs(5));
    service.stop()?;
    let before = points(influxd);
    say(&format!("the service is away while Home Assistant makes {GAP_ROWS} rows"));
    let made = home.load(Load { count: GAP_ROWS, rate: 0, entities: ENTITIES, seed: 2, nasty: false });
    let wanted = made.iter().filter(|change| !["unknown", "unavailable", ""].contains(&&*change.state)).count();
    runtime.block_on(caught_up(home, 0))?;
    // Its queue is empty long before that.
    say("its recorder commits them");
    wait_until("the recorder has committed the last row", PATIENCE, || {
        has_committed(home, made.last()?).expect("the recorder's database can be read").then_some(())
    });

    say("the service starts");
    let begin = Instant::now();
    let mut service = Ours::service(folder.path(), home, influxd)?;
    service.wait_until_ready();
    let ready = begin.elapsed();
    let (mut stored, mut looked) = (None, begin);
    wait_until("the gap is closed", PATIENCE, || {
        let page = service.page()?;
        if looked.elapsed() > Duration::from_secs(3) {
            looked = Instant::now();
            say(&format!("{} of {wanted} rows are in InfluxDB", points(influxd) - before));
        }
        let is_closed = page.sum("gap_open") == Some(0.0) && page.sum("gaps_closed_total") > Some(0.0);
        if stored.is_none() && page.sum("points_pending") == Some(0.0) && points(influxd) >= before + wanted {
            stored = Some(begin.elapsed());
        }
        (is_closed && stored.is_some()).then_some(())
    });
    println!("\na gap of {GAP_ROWS} rows, seconds since the start of the service");
    println!("{:<52} {:>10.1}", "it hears Home Assistant", ready.as_secs_f64());
    println!("{:<52} {:>10}", "rows that are points", wanted);
    println!("{:<52} {:>10.1}", "every one of them is in InfluxDB", stored.unwrap_or_default().as_secs_f64());
    println!("{:<52} {:>10.1}", "it says that the gap is closed", begin.elapsed().as_secs_f64());
    Ok(())
}

/// Of all entities of the load generator.
fn points(influxd: &Influxd) -> usize {
    let results =
        influxd.query(DATABASE, "SELECT COUNT(*) FROM /.*/ WHERE \"entity_id\" =~ /^load_/ GROUP BY \"entity_id\"");
    let series = results.iter().flat_map(|result| result["series"].as_array().into_iter().flatten());
    let most = |one: &Value| one["values"][0].as_array().into_iter().flatten().skip(1).filter_map(Value::as_u64).max();
    usize::try_from(series.filter_map(most).sum::<u64>()).expect("a count")
}

/// Gives Home Assistant the million rows. Returns when the first and the last were, in seconds, and how many there are.
fn give_rows(runtime: &Runtime, home: &mut HomeAssistant) -> anyhow::Result<(i64, i64, u64)> {
    let made = Load { count: ROWS_MADE, rate: 0, entities: ENTITIES, seed: 1, nasty: false };
    say(&format!("Home Assistant makes {ROWS_MADE} rows"));
    home.load(made);
    runtime.block_on(caught_up(home, 0))?;
    home.stop();
    let database = home.folder().join(DATABASE_FILE);
    settle(&database)?;
    say(&format!("they are copied until there are {ROWS}, over nine days"));
    let mut multiply = Command::new(python().context("Home Assistant ran")?);
    let multiplied = multiply.args(["-c", MULTIPLY]).arg(&database).arg(ROWS.to_string()).output()?;
    ensure!(multiplied.status.success(), "{}", String::from_utf8_lossy(&multiplied.stderr));
    say("Home Assistant starts with them");
    home.start_again();
    // The past is that of entities that are there.
    home.load(Load { count: 20 * ENTITIES as usize, seed: 99, ..made });
    runtime.block_on(caught_up(home, 0))?;
    let text = String::from_utf8(multiplied.stdout)?;
    let [from, until, rows] = text.split_whitespace().collect::<Vec<_>>()[..] else { anyhow::bail!("{text}") };
    Ok((from.parse()?, until.parse()?, rows.parse()?))
}

/// Brings everything into the one file. The last one to close it removes the files beside it.
fn settle(database: &Path) -> anyhow::Result<()> {
    const SETTLE: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute('PRAGMA wal_checkpoint(TRUNCATE)')
db.close()
";
    let status = Command::new(python().context("Home Assistant ran")?).args(["-c", SETTLE]).arg(database).status()?;
    let log = database.with_file_name(format!("{DATABASE_FILE}-wal"));
    ensure!(status.success() && !log.exists(), "{} is not settled", database.display());
    Ok(())
}

/// Whether the change is where others than the recorder see it.
fn has_committed(home: &HomeAssistant, change: &Change) -> anyhow::Result<bool> {
    const HAS: &str = "
import sqlite3, sys
db = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True)
newest = db.execute('SELECT MAX(last_updated_ts) FROM states JOIN states_meta USING (metadata_id)'
                    ' WHERE states_meta.entity_id = ?', (sys.argv[2],)).fetchone()[0]
print(newest is not None and round(newest * 1e6) >= int(sys.argv[3]))
";
    let mut has = Command::new(python().context("Home Assistant ran")?);
    has.args(["-c", HAS]).arg(home.folder().join(DATABASE_FILE)).args([&change.entity_id, &change.micros.to_string()]);
    let output = has.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout.starts_with(b"True"))
}

/// Until not more than so many rows wait for the recorder.
async fn caught_up(home: &HomeAssistant, backlog: u64) -> anyhow::Result<()> {
    let mut recorder = Recorder::connect(&settings(home)).await?;
    while recorder.info().await?.backlog > backlog {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    recorder.end().await;
    Ok(())
}

#[derive(Default)]
struct Seen {
    pings: Vec<Duration>,
    live: Vec<Duration>,
}

/// Pings Home Assistant every 50 ms and sets a state every second, until `is_over`.
fn watch(
    runtime: &Runtime,
    home: &HomeAssistant,
    influxd: &Influxd,
    is_over: &mut dyn FnMut() -> bool,
) -> anyhow::Result<Seen> {
    let (settings, over) = (settings(home), tokio_util::sync::CancellationToken::new());
    let pinging = runtime.spawn(ping(settings, over.clone()));
    let mut seen = Seen::default();
    while !is_over() {
        if seen.live.len().is_multiple_of(5) {
            say(&format!("{} states were set and found in InfluxDB", seen.live.len()));
        }
        let begin = Instant::now();
        let number = format!("{}", begin.elapsed().as_nanos() + u128::from(fastrand::u32(..)));
        home.set_state("sensor.probe", &number, &json!({}));
        wait_until("the probe is in InfluxDB", PATIENCE, || {
            let found = influxd.query(DATABASE, "SELECT LAST(value) FROM \"sensor.probe\"");
            let value = found[0]["series"][0]["values"][0][1].as_f64();
            (value == number.parse().ok()).then_some(())
        });
        seen.live.push(begin.elapsed());
        thread::sleep(Duration::from_secs(1).saturating_sub(begin.elapsed()));
    }
    over.cancel();
    seen.pings = runtime.block_on(pinging)??;
    Ok(seen)
}

async fn ping(settings: Settings, over: tokio_util::sync::CancellationToken) -> anyhow::Result<Vec<Duration>> {
    let mut visit = Visit::begin(&settings, Duration::from_secs(10)).await?;
    let mut pings = Vec::new();
    while !over.is_cancelled() {
        let begin = Instant::now();
        visit.ask(json!({"type": "ping"}), PATIENCE).await?;
        pings.push(begin.elapsed());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(pings)
}

/// False until so much time has passed since the first call.
fn quiet_for(time: Duration) -> bool {
    static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed() > time
}

fn settings(home: &HomeAssistant) -> Settings {
    Settings {
        url: format!("ws://{}/api/websocket", home.address()).parse().expect("a URL"),
        token: Secret::new(home.token()),
        tls: Tls { verify: true, ca_certificate: None },
    }
}

/// What a run of the program took.
#[derive(Default)]
struct Cost {
    took: Duration,
    /// Seconds.
    processor: f64,
    peak_kib: u32,
}

/// The program, as a process.
struct Ours {
    child: Child,
    log: PathBuf,
    web: std::net::SocketAddr,
}

impl Ours {
    fn service(folder: &Path, home: &HomeAssistant, influxd: &Influxd) -> anyhow::Result<Self> {
        Self::start(folder, home, influxd, &["run"])
    }

    fn start(folder: &Path, home: &HomeAssistant, influxd: &Influxd, arguments: &[&str]) -> anyhow::Result<Self> {
        fs::create_dir_all(folder.join("data"))?;
        let options = json!({
            "home_assistant": {"url": home.url(), "token": home.token()},
            "influxdb": {"url": influxd.url(), "api": "v1", "database": DATABASE},
            // What waits for company is not what is measured.
            "delivery": {"linger_ms": 100},
        });
        fs::write(folder.join("options.json"), options.to_string())?;
        let log = folder.join("log");
        let output = File::options().create(true).append(true).open(&log)?;
        let web = free_address();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ha-ingestor"));
        command.args(arguments).arg("--options").arg(folder.join("options.json"));
        command.arg("--data-dir").arg(folder.join("data")).arg("--listen").arg(web.to_string());
        command.stdout(output.try_clone()?).stderr(output);
        Ok(Self { child: command.spawn()?, log, web })
    }

    fn wait_until_ready(&mut self) {
        wait_until("ha-ingestor is ready", PATIENCE, || {
            http::get(self.web, "/ready", &[]).ok().filter(|answer| answer.status == 200)
        });
    }

    fn page(&self) -> Option<Page> {
        http::get(self.web, "/metrics", &[]).ok().map(|answer| Page(answer.body))
    }

    /// Looks at it until it ends by itself, which must be a success.
    fn cost_until_the_end(&mut self) -> anyhow::Result<Cost> {
        let begin = Instant::now();
        let mut cost = Cost::default();
        loop {
            // The kernel knows the time of what has ended until somebody waits for it, but not its memory.
            cost.processor = processor(self.child.id())?;
            cost.peak_kib = peak(self.child.id()).unwrap_or(cost.peak_kib);
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(&self.log)?;
                ensure!(status.success(), "{status}: {log}");
                println!("{}", log.lines().last().unwrap_or_default());
                return Ok(Cost { took: begin.elapsed(), ..cost });
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn stop(mut self) -> anyhow::Result<()> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        ensure!(self.child.wait()?.success(), "it ended badly: {}", fs::read_to_string(&self.log)?);
        Ok(())
    }
}

impl Drop for Ours {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system seconds so far; the kernel counts in hundredths of a second.
fn processor(id: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    let after_name = stat.rsplit_once(") ").context("/proc has another shape here")?.1;
    let ticks: u32 = after_name.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u32>().ok()).sum();
    Ok(f64::from(ticks) / 100.0)
}

/// The most memory that it ever had, in KiB. A process that has ended has none.
fn peak(id: u32) -> anyhow::Result<u32> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("it has ended")?;
    Ok(line.trim_end_matches("kB").trim().parse()?)
}
