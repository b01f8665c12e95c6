//! What was kept is sent again.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ha_ingestor::dead_letters::letter::{DeadLetter, Ids};
use ha_ingestor::dead_letters::{FOLDER, LIMIT_BYTES, Store};
use ha_ingestor::model::fate::Refused;
use ha_ingestor::model::refused::RefusedEvent;
use ha_ingestor::model::time::Timestamp;
use ha_ingestor::model::value::Value as Attribute;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::commands::archived;
use crate::fake::{Fake, answer};
use crate::service::{Place, Service, options_file, output, printed, program};
use crate::world::{Mood, World};

/// A data folder with dead letters in it.
struct Kept {
    folder: TempDir,
    store: Store,
}

impl Kept {
    /// One letter for each line. They are of the target `influxdb`.
    fn new(lines: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let store = Store::open(folder.path().join(FOLDER), LIMIT_BYTES);
        let ids = Ids::new();
        let letters: Vec<DeadLetter> = (1..)
            .zip(lines)
            .map(|(second, line)| DeadLetter {
                id: ids.next(),
                at: Timestamp::from_micros(1_795_448_700_000_000),
                target: "influxdb".to_owned(),
                reason: "refused_by_database".to_owned(),
                words: "field type conflict".to_owned(),
                batch: "7".to_owned(),
                context: None,
                time: Timestamp::from_micros(second * 1_000_000),
                line: (*line).to_owned(),
                rule: None,
                event: None,
            })
            .collect();
        let _ = store.add(&letters).unwrap();
        Self { folder, store }
    }

    /// The oldest first.
    fn lines(&self) -> Vec<String> {
        self.store.list(usize::MAX, None).unwrap().into_iter().rev().map(|letter| letter.line).collect()
    }

    fn replay(&self, options: &Value, arguments: &[&str]) -> (Option<i32>, String) {
        let options = options_file(&self.folder, &options.to_string());
        let data = self.folder.path().to_str().unwrap();
        let command = ["replay", "--dead-letters", "--options", &options, "--data-dir", data];
        let output = output(&[&command, arguments].concat());
        (output.status.code(), printed(&output))
    }
}

const GOOD: &str = "m,entity_id=good value=1 1000000000";
const POISON: &str = "m,entity_id=poison value=x 2000000000";
const FINE: &str = "m,entity_id=fine value=3 3000000000";

#[test]
fn a_letter_whose_cause_was_repaired_is_stored_and_one_that_is_refused_again_stays() {
    let world = World::new();
    let kept = Kept::new(&[GOOD, POISON, FINE]);
    world.database.is(Mood::CannotParse("poison"));
    let (code, told) = kept.replay(&world.options(), &[]);
    assert_eq!(code, Some(69), "{told}");
    let words = "influxdb: 2 stored, 1 refused again\n  1 refused: unable to parse the line: invalid number\n";
    assert_eq!(told, words);
    assert_eq!((kept.lines(), world.database.lines()), (vec![POISON.to_owned()], vec![GOOD.into(), FINE.into()]));

    world.database.is(Mood::Well);
    let (code, told) = kept.replay(&world.options(), &[]);
    assert_eq!((code, &*told), (Some(0), "influxdb: 1 stored, 0 refused again\n"));
    assert!(kept.lines().is_empty());
    assert_eq!(world.database.lines(), [GOOD, FINE, POISON]);
    let (code, told) = kept.replay(&world.options(), &[]);
    assert_eq!((code, &*told), (Some(0), "no dead letters are kept\n"));
}

#[test]
fn while_the_database_is_away_nothing_leaves_the_store() {
    let world = World::deserted();
    let kept = Kept::new(&[GOOD, POISON, FINE]);
    let (code, told) = kept.replay(&world.options(), &[]);
    assert_eq!(code, Some(69), "{told}");
    assert!(told.contains("influxdb: 0 stored, 0 refused again\n  3 not sent: cannot reach 127.0.0.1"), "{told}");
    assert_eq!(kept.lines(), [GOOD, POISON, FINE]);

    world.open_database();
    world.database.is(Mood::Says(401, "{\"error\":\"authorization failed\"}"));
    let (code, told) = kept.replay(&world.options(), &[]);
    assert_eq!(code, Some(69), "{told}");
    assert!(told.contains("3 not sent: the database refuses the credentials"), "{told}");
    assert_eq!(world.database.requests().len(), 1, "it does not hammer");
    assert_eq!(kept.lines(), [GOOD, POISON, FINE]);
    world.database.is(Mood::Well);
    assert_eq!(kept.replay(&world.options(), &[]).0, Some(0));
    assert!(kept.lines().is_empty());
}

/// It fails twice, takes a batch, and then fails for good.
#[test]
fn a_database_that_fails_halfway_has_what_has_left_the_store() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut request = 0;
    let fake = runtime.block_on(Fake::start(move |_| {
        request += 1;
        answer(if request == 3 { 204 } else { 503 }, "")
    }));
    let kept = Kept::new(&[GOOD, POISON, FINE]);
    let options = json!({
        "influxdb": {"url": fake.url, "api": "v1"},
        "delivery": {"batch_points": 2, "retry_initial_ms": 20, "retry_max_ms": 100},
    });
    let (code, told) = kept.replay(&options, &[]);
    assert_eq!(code, Some(69), "{told}");
    assert!(told.starts_with("influxdb: 2 stored, 0 refused again\n  1 not sent: the database answers 503"), "{told}");
    assert_eq!(kept.lines(), [FINE]);
    let requests = fake.requests();
    assert_eq!(requests[2].lines, [GOOD, POISON]);
    assert_eq!(requests.len(), 3 + 5, "it gives up");
}

#[test]
fn a_dry_run_tells_what_there_is_and_changes_nothing() {
    let world = World::new();
    let kept = Kept::new(&[GOOD, POISON]);
    let file = kept.folder.path().join(FOLDER).join("0000000001.jsonl");
    let before = fs::read(&file).unwrap();
    let (code, told) = kept.replay(&world.options(), &["--dry-run"]);
    assert_eq!(code, Some(0), "{told}");
    let row: Vec<&str> = told.lines().nth(1).unwrap().split_whitespace().collect();
    let times = ["1970-01-01T00:00:01.000000Z", "1970-01-01T00:00:02.000000Z"];
    assert_eq!(row, ["2", "influxdb", times[0], times[1], "field", "type", "conflict"]);
    assert_eq!((fs::read(&file).unwrap(), world.database.requests().len()), (before, 0));
}

#[test]
fn letters_of_a_target_that_is_gone_wait_for_another_one() {
    let world = World::new();
    let kept = Kept::new(&[GOOD]);
    let mut letter = kept.store.list(1, None).unwrap().remove(0);
    (letter.id, letter.target, letter.line) = ("other".to_owned(), "mirror_9".to_owned(), FINE.to_owned());
    let _ = kept.store.add(&[letter]).unwrap();
    let (code, told) = kept.replay(&world.options(), &[]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("mirror_9: 1 not sent: there is no such target now: name another with --target"), "{told}");
    assert_eq!(kept.lines(), [FINE]);
    let (code, told) = kept.replay(&world.options(), &["--target", "mirror_9"]);
    assert_eq!((code, &*told), (Some(78), "--target: there is no target `mirror_9`; there is influxdb\n"));
    assert_eq!(kept.replay(&world.options(), &["--target", "influxdb"]).0, Some(0));
    assert!(kept.lines().is_empty());
    assert_eq!(kept.replay(&json!({"influxdb": {"url": ""}}), &[]).0, Some(78));
}

#[test]
fn an_event_that_never_became_a_line_is_listed_and_not_sent() {
    let world = World::new();
    let mut options = world.options();
    options["schema"] = json!({"tags_attributes": ["story"]});
    let place = Place::new();
    let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
    service.wait_until_ready();
    let story = |number: usize| Attribute::Text(format!("{number}{}", "x".repeat(70_000)).into());
    let times: Vec<_> = (0..25)
        .map(|number| {
            let attributes = [("story".into(), story(number))].into_iter().collect();
            world.home.set("sensor.author", &number.to_string(), attributes).unwrap()
        })
        .collect();
    service.wait_until("all are counted", |service| service.metric("points_refused_total") == 25);
    service.wait_until("some are kept", |service| service.metric("dead_letters") == 10);
    let listed = service.get("/api/dead-letters?target=-").json();
    let letter = &listed["letters"][9];
    assert_eq!((&letter["target"], &letter["reason"]), (&json!("-"), &json!("key_too_long")), "{letter}");
    assert!(letter["event"].as_str().unwrap().starts_with("sensor.author "), "{letter}");
    assert_eq!(letter["context"], json!(times[0].context.id), "{letter}");
    assert!(letter["words"].as_str().unwrap().contains("longer together than a database takes"), "{letter}");
    assert!(letter.get("line").is_none() && letter.get("batch").is_none(), "{letter}");

    // What the home began with is on its way, and would be taken for something that was sent again.
    service.wait_until("all else is stored", |service| service.metric("points_pending") == 0);
    let folder = TempDir::new().unwrap();
    let options = options_file(&folder, &options.to_string());
    let requests = world.database.requests().len();
    for more in [&[][..], &["--dry-run"], &["--target", "influxdb"]] {
        let data = place.data();
        let command = ["replay", "--dead-letters", "--options", &options, "--data-dir", data.to_str().unwrap()];
        let replayed = output(&[&command, more].concat());
        let told = "10 events never became a line: repair the rule; they are not sent\n";
        assert_eq!((replayed.status.code(), &*printed(&replayed)), (Some(0), told), "{more:?}");
    }
    assert_eq!(world.database.requests().len(), requests, "nothing was sent");
    assert_eq!(service.get("/api/dead-letters").json()["kept"], 10);
    service.stop();
}

#[test]
fn lines_are_sent_and_events_beside_them_stay() {
    let world = World::new();
    let kept = Kept::new(&[GOOD, FINE]);
    let event = RefusedEvent {
        time: Timestamp::from_micros(7),
        context: None,
        rule: Some("Power in kW".into()),
        reason: Refused::WrongType,
        what: "sensor.oven hot".to_owned(),
    };
    let letter = DeadLetter::of_event(event, "event-1".to_owned(), Timestamp::from_micros(8));
    let _ = kept.store.add(&[letter]).unwrap();
    let (code, told) = kept.replay(&world.options(), &[]);
    let expected =
        "1 event never became a line: repair the rule; it is not sent\ninfluxdb: 2 stored, 0 refused again\n";
    assert_eq!((code, &*told), (Some(0), expected));
    assert_eq!(world.database.lines(), [GOOD, FINE]);
    let left = kept.store.list(usize::MAX, None).unwrap();
    assert_eq!((left.len(), left[0].rule.as_deref()), (1, Some("Power in kW")));
}

/// As with `replay | head -0`.
#[test]
fn a_refused_point_is_listed_and_after_the_repair_it_is_sent_while_the_service_runs() {
    let world = World::new();
    world.database.is(Mood::CannotParse("entity_id=poison"));
    let place = Place::new();
    let options = world.options();
    let mut service = Service::start_at(&place, place.command(Some(&options), &[]));
    service.wait_until_ready();
    let change = world.home.set("sensor.poison", "1", [].into_iter().collect()).unwrap();
    service.wait_until("it is set aside", |service| service.metric("dead_letters") == 1);
    let listed = service.get("/api/dead-letters?limit=10&target=influxdb").json();
    assert_eq!(listed["kept"], 1);
    let letter = &listed["letters"][0];
    assert!(letter["line"].as_str().unwrap().contains("entity_id=poison"), "{letter}");
    assert_eq!((&letter["target"], &letter["reason"]), (&json!("influxdb"), &json!("unparsable")));
    assert_eq!(letter["context"], json!(change.context.id), "as Home Assistant knows it");
    assert_eq!(service.get("/api/dead-letters?target=mirror_1").json()["letters"], json!([]));
    assert_eq!(service.get("/api/dead-letters?limit=many").status, 400);

    world.database.is(Mood::Well);
    let data = place.data();
    let folder = TempDir::new().unwrap();
    let options = options_file(&folder, &options.to_string());
    let replayed = output(&["replay", "--dead-letters", "--options", &options, "--data-dir", data.to_str().unwrap()]);
    assert_eq!(replayed.status.code(), Some(0), "{}", printed(&replayed));
    assert!(world.database.has(&world.expected()));
    assert_eq!(service.get("/api/dead-letters").json()["letters"], json!([]));
    service.wait_until("it is known that it is gone", |service| service.metric("dead_letters") == 0);
    service.stop();
}

#[test]
fn it_goes_on_when_nobody_listens() {
    let world = World::new();
    let kept = Kept::new(&[GOOD]);
    let options = options_file(&kept.folder, &world.options().to_string());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = program();
    command.args(["replay", "--dead-letters", "--options", &options, "--data-dir"]).arg(kept.folder.path());
    let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((output.status.code(), printed(&output)), (Some(0), String::new()));
    assert!(kept.lines().is_empty());
}

/// The files that the demo writes, and their lines.
fn archive(folder: &Path) -> (Vec<PathBuf>, Vec<String>) {
    let data = folder.to_str().unwrap();
    let ran = output(&["demo", "--seconds", "2", "--listen", "127.0.0.1:0", "--data-dir", data]);
    assert_eq!(ran.status.code(), Some(0), "{}", printed(&ran));
    let archive = folder.join("demo");
    let files = fs::read_dir(&archive).unwrap().map(|entry| entry.unwrap().path()).collect();
    (files, archived(&archive))
}

fn replay_files(folder: &TempDir, options: &Value, files: &[PathBuf], more: &[&str]) -> (Option<i32>, String) {
    let options = options_file(folder, &options.to_string());
    let mut arguments = vec!["replay", "--options", &options];
    arguments.extend(files.iter().map(|file| file.to_str().unwrap()));
    arguments.extend(more);
    let output = output(&arguments);
    (output.status.code(), printed(&output))
}

#[test]
fn the_files_of_an_archive_find_their_way_into_a_database() {
    let world = World::deserted();
    let folder = TempDir::new().unwrap();
    let (files, lines) = archive(folder.path());
    let (code, told) = replay_files(&folder, &world.options(), &files, &["--dry-run"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains(" lines for influxdb, from 2"), "{told}");
    let (code, told) = replay_files(&folder, &world.options(), &files, &[]);
    assert_eq!(code, Some(69), "{told}");
    assert!(told.contains("0 lines stored in influxdb\n  the rest was not sent: cannot reach"), "{told}");

    world.open_database();
    let mut options = world.options();
    options["delivery"]["batch_points"] = json!(7);
    let (code, told) = replay_files(&folder, &options, &files, &[]);
    assert_eq!(code, Some(0), "{told}");
    let set = |lines: &[String]| lines.iter().cloned().collect::<BTreeSet<_>>();
    assert_eq!(world.database.lines().len(), lines.len());
    assert_eq!(set(&world.database.lines()), set(&lines));
    assert!(world.database.requests().iter().all(|request| request.lines.len() <= 7));
}

#[test]
fn a_damaged_file_gives_what_is_whole_and_says_that_it_is_not_all() {
    let world = World::new();
    let folder = TempDir::new().unwrap();
    let (files, lines) = archive(folder.path());
    let torn = fs::read(&files[0]).unwrap();
    fs::write(&files[0], &torn[..torn.len() - 1]).unwrap();
    let (code, told) = replay_files(&folder, &world.options(), &files, &[]);
    assert_eq!(code, Some(69), "{told}");
    assert!(told.contains(" bytes of the file are damaged"), "{told}");
    let stored = world.database.lines();
    assert!(!stored.is_empty() && stored.len() < lines.len() && stored.iter().all(|line| lines.contains(line)));

    let mut options = world.options();
    options["influxdb"] = json!({"url": format!("file://{}", folder.path().join("demo").display())});
    let (code, told) = replay_files(&folder, &options, &files, &[]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("this is the archive that it would be sent to"), "{told}");
    let (code, told) = replay_files(&folder, &options, &["/nowhere/a.lp.gz".into()], &[]);
    assert_eq!(code, Some(70), "{told}");
    assert!(told.contains("cannot open /nowhere/a.lp.gz"), "{told}");
}
