//! Home Assistant's history at its worst: it comes late, in pieces, damaged, under another name, or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use ha_ingestor::demo::trouble::{Fault, Trouble};
use ha_ingestor::model::time::Timestamp;
use ha_ingestor::model::value::{Attributes, Value as Held};
use ha_ingestor::runtime::clock;
use serde_json::Value;

use crate::service::{Place, Service, output, printed};
use crate::world::{Key, World};

const HOUR: i64 = 3_600;

/// A service, its home, and what is between two starts.
struct Story {
    world: World,
    place: Place,
}

impl Story {
    /// The service was there once and has everything; now it is away.
    fn begin(world: World) -> Self {
        let story = Self { world, place: Place::new() };
        let mut service = story.start();
        service.wait_until_ready();
        story.world.home.storm(20);
        service.wait_until("everything is stored", |_| story.world.database.has(&story.world.expected()));
        service.stop();
        story
    }

    fn start(&self) -> Service {
        Service::start_at(&self.place, self.place.command(Some(&self.world.options()), &[]))
    }

    /// Until nothing is missing and the gap is closed. Nothing more than what happened is there.
    fn closes(&self, service: &mut Service) {
        service.wait_until("the gap is closed", |service| service.metric("gaps_closed_total") == 1);
        service.wait_until("everything is stored", |_| self.world.database.has(&self.world.expected()));
        assert_eq!(self.world.database.points().0, self.world.expected(), "nothing more than what happened");
        assert_eq!(service.metric("gap_open"), 0);
    }

    /// From when to when the recorder was asked since the last call.
    fn asked(&self) -> Vec<(f64, f64)> {
        self.world.home.home_mut(|home| std::mem::take(&mut home.trouble.asked))
    }

    fn faults<const N: usize>(&self, faults: [Fault; N]) {
        self.world.home.home_mut(|home| home.trouble.faults = faults.into());
    }

    fn refuses_everything_after(&self, questions: usize) {
        let faults = std::iter::repeat_n(Fault::No, questions).chain(std::iter::repeat_n(Fault::Refused, 1_000));
        self.world.home.home_mut(|home| home.trouble.faults = faults.collect());
    }

    fn now(&self) -> f64 {
        let newest = self.world.expected().into_iter().map(|(_, time)| time.as_micros()).max();
        #[expect(clippy::cast_precision_loss, reason = "seconds of this century")]
        let seconds = newest.unwrap() as f64 / 1e6;
        seconds
    }
}

fn phase(service: &Service) -> String {
    service.get("/api/history").json()["gap"]["phase"].as_str().unwrap_or_default().to_owned()
}

fn missing(service: &Service) -> Vec<Value> {
    service.get("/api/history").json()["not_closed"].as_array().unwrap().clone()
}

fn entities(points: &BTreeSet<Key>) -> BTreeSet<String> {
    points.iter().map(|(entity, _)| entity.clone()).collect()
}

#[test]
fn while_the_recorder_changes_its_database_the_gap_waits_and_says_why() {
    let story = Story::begin(World::new());
    story.world.home.storm(50);
    story.world.home.home_mut(|home| home.trouble.migrating = true);
    let mut service = story.start();
    let words = "Home Assistant's recorder brings its database to a new version";
    service.wait_for_log(&format!("a gap stays open until it can be closed: {words}"));
    service.wait_until("it says so", |service| phase(service) == words);
    assert_eq!(service.metric("gap_open"), 1);
    story.world.home.home_mut(|home| home.trouble.migrating = false);
    story.closes(&mut service);
    assert_eq!(service.said("a gap stays open").len(), 1, "{}", service.log());
    service.stop();
}

#[test]
fn what_the_recorder_held_back_in_a_long_backup_is_fetched_when_it_is_written() {
    let story = Story::begin(World::with_clock(-HOUR));
    // Much longer than what is looked at a second time.
    story.world.home.home_mut(|home| home.hold_recorder(true));
    for ago in [50, 40, 30, 20, 10, 0] {
        story.world.set_clock(-60 * ago);
        story.world.home.storm(20);
    }
    let mut service = story.start();
    service.wait_until("it waits for the recorder", |service| {
        phase(service).starts_with("waiting until the recorder has written")
    });
    story.world.home.home_mut(|home| home.hold_recorder(false));
    story.closes(&mut service);
    service.stop();
}

#[test]
fn an_answer_that_nobody_can_carry_is_asked_for_in_pieces() {
    let story = Story::begin(World::new());
    story.world.home.storm(400);
    std::thread::sleep(Duration::from_secs(3));
    story.world.home.storm(400);
    story.world.home.home_mut(|home| home.trouble.largest_answer = Some(20_000));
    let mut service = story.start();
    story.closes(&mut service);
    let spans: Vec<f64> = story.asked().iter().map(|(from, to)| to - from).collect();
    let shortest = spans.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(shortest < spans[0] / 2.0, "{spans:?}");
    assert_eq!(missing(&service), [] as [Value; 0]);
    service.stop();
}

#[test]
fn an_answer_that_is_cut_off_in_its_middle_is_asked_for_again() {
    let story = Story::begin(World::new());
    story.world.home.storm(300);
    // First it is asked how far back the history reaches.
    story.faults([Fault::No, Fault::Torn, Fault::Torn]);
    let mut service = story.start();
    story.closes(&mut service);
    let asked = story.asked();
    assert_eq!((asked[0], asked[1]), (asked[1], asked[2]), "the same question");
    assert_eq!(service.said("a gap stays open").len(), 0, "{}", service.log());
    service.stop();
}

#[test]
fn one_refusal_costs_nothing_and_an_entity_that_is_always_refused_costs_only_itself() {
    let story = Story::begin(World::new());
    story.world.home.storm(200);
    story.faults([Fault::No, Fault::Refused]);
    let mut service = story.start();
    story.closes(&mut service);
    assert_eq!(missing(&service), [] as [Value; 0]);
    service.stop();

    let refused = story.world.present().into_iter().next_back().expect("somebody lives there").0;
    story.world.home.home_mut(|home| home.trouble.refuses = Some(refused.clone()));
    story.world.home.storm(300);
    assert!(story.world.home.set(&refused, "17", Attributes::default()).is_some());
    let mut service = story.start();
    service.wait_until("the gap is closed", |service| service.metric("gaps_closed_total") == 1);
    let of_others = |points: &BTreeSet<Key>| -> BTreeSet<Key> {
        points.iter().filter(|(entity, _)| *entity != refused).cloned().collect()
    };
    let expected = of_others(&story.world.expected());
    service.wait_until("the others are stored", |_| story.world.database.has(&expected));
    let told = missing(&service);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (&told[0]["entity"], &told[0]["why"]),
        (&refused.as_str().into(), &"Home Assistant refuses to tell".into())
    );
    service.stop();
}

#[test]
fn after_an_error_the_next_attempt_begins_with_what_is_left() {
    let story = Story::begin(World::with_clock(-HOUR));
    for ago in [55, 45, 35, 25, 15, 5, 0] {
        story.world.set_clock(-60 * ago);
        story.world.home.storm(20);
    }
    story.refuses_everything_after(3);
    let mut service = story.start();
    service
        .wait_for_log("a gap stays open until it can be closed: Home Assistant refuses: Unknown error (unknown_error)");
    story.faults([]);
    let before = story.asked();
    story.closes(&mut service);
    let after = story.asked();
    assert_eq!(before.len(), 2, "{before:?}");
    assert!((after[0].0 - before[1].1).abs() < 0.01, "it goes on where it was: {before:?} {after:?}");
    assert_eq!(missing(&service), [] as [Value; 0], "what the first attempt saw is not missed");
    assert_eq!(service.said("closing a gap:").len(), 1, "{}", service.log());
    service.stop();
}

#[test]
fn rows_that_are_none_are_counted_and_the_others_are_written() {
    let story = Story::begin(World::new());
    story.world.home.storm(100);
    story.world.home.home_mut(|home| home.trouble.damages_rows = true);
    let mut service = story.start();
    story.closes(&mut service);
    assert!(service.metric("history_unreadable_total") > 20, "{}", service.get("/metrics").body);
    service.stop();
}

#[test]
fn what_was_purged_meanwhile_is_named_entity_by_entity() {
    for keeps_the_end in [true, false] {
        let story = Story::begin(World::with_clock(-HOUR));
        story.world.set_clock(-HOUR / 2);
        // As after a start of Home Assistant: no state is older than the gap.
        story.world.home.begin_anew();
        story.world.home.storm(30);
        let lost = story.world.expected();
        assert!(story.world.home.remove("sensor.never_there").is_none());
        story.world.set_clock(0);
        assert!(story.world.home.set("sensor.late", "1", Attributes::default()).is_some());
        let until = story.now();
        if keeps_the_end {
            story.world.home.storm(30);
        }
        let purged = if keeps_the_end { until } else { f64::MAX };
        story.world.home.home_mut(|home| home.purge(purged));
        let mut service = story.start();
        service.wait_until("the gap is closed", |service| service.metric("gaps_closed_total") == 1);
        let told = missing(&service);
        let named: BTreeSet<String> = told.iter().map(|one| one["entity"].as_str().unwrap().to_owned()).collect();
        assert_eq!(named.len(), told.len(), "each once: {told:?}");
        assert!(named.is_superset(&entities(&lost)), "{named:?} {:?}", entities(&lost));
        let gap_begins = told[0]["from"].clone();
        for one in &told {
            assert_eq!(one["why"], "history begins later, or was purged", "{one}");
            assert!(one["from"] == gap_begins && one["until"].as_str() > gap_begins.as_str(), "{one}");
        }
        assert_eq!(service.metric("gaps_not_closed_total"), told.len() as u64);
        // What is left is written, and the present.
        service.wait_until("the present is stored", |_| story.world.database.has(&story.world.present()));
        service.stop();
    }
}

#[test]
fn an_entity_that_got_another_name_meanwhile_is_told_by_both() {
    let world = World::new();
    let number =
        |text: &str| -> Attributes { [("unit_of_measurement".into(), Held::Text(text.into()))].into_iter().collect() };
    for entity in ["sensor.one", "sensor.two", "sensor.taken"] {
        assert!(world.home.set(entity, "1", number("W")).is_some());
    }
    assert!(world.home.remove("sensor.taken").is_some());
    let story = Story { world, place: Place::new() };
    let mut service = story.start();
    service.wait_until_ready();
    service.wait_until("it is noted what they are called", |_| {
        let text = fs::read_to_string(story.place.data().join("entities.json")).unwrap_or_default();
        let noted: Value = serde_json::from_str(&text).unwrap_or_default();
        noted["registered"].as_object().is_some_and(|names| names.values().any(|name| name == "sensor.two"))
    });
    service.stop();
    for entity in ["sensor.one", "sensor.two"] {
        assert!(story.world.home.set(entity, "2", number("W")).is_some());
    }
    story.world.home.rename("sensor.one", "sensor.first");
    // This name has a past of its own: Home Assistant does not move what there is.
    story.world.home.rename("sensor.two", "sensor.taken");
    let mut service = story.start();
    service.wait_until("the gap is closed", |service| service.metric("gaps_closed_total") == 1);
    let told = service.get("/api/history").json();
    let mut renamed: Vec<[&str; 3]> = told["renamed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| ["before", "now", "history"].map(|name| one[name].as_str().unwrap()))
        .collect();
    renamed.sort_unstable();
    let expected = [["sensor.one", "sensor.first", "sensor.first"], ["sensor.two", "sensor.taken", "sensor.two"]];
    assert_eq!(renamed, expected, "{told}");
    service.wait_for_log(
        "sensor.two is called sensor.taken now; what happened to it in the gap is written as that of sensor.two",
    );
    // Nothing is missing: what happened is there, under the name that the history has.
    let expected: BTreeSet<Key> = story.world.expected().into_iter().collect();
    let moved = |(entity, time): &Key| {
        let name = if entity == "sensor.one" { "sensor.first" } else { entity };
        (name.to_owned(), *time)
    };
    service.wait_until("everything is stored", |_| {
        let (points, _) = story.world.database.points();
        expected.iter().all(|key| points.contains(key) || points.contains(&moved(key)))
    });
    assert_eq!(missing(&service), [] as [Value; 0]);
    service.stop();
}

#[test]
fn a_home_whose_clock_is_an_hour_off_lacks_nothing() {
    for ahead in [HOUR, -HOUR] {
        let story = Story::begin(World::with_clock(ahead));
        story.world.home.storm(100);
        let mut service = story.start();
        story.closes(&mut service);
        let seconds = service.sample("gap_seconds_total");
        assert!(seconds < 300.0, "by the home's own clock: {seconds}");
        // What happens now is told, and the connection breaks once more.
        story.world.home.storm(50);
        service.wait_until("everything is stored", |_| story.world.database.has(&story.world.expected()));
        let asked = story.asked().len();
        assert!(asked < 20, "it does not go round in circles: {asked}");
        assert_eq!(service.metric("gaps_closed_total"), 1);
        service.stop();
    }
}

#[test]
fn without_the_note_it_says_once_what_to_do_and_an_import_brings_the_rest() {
    for damaged in [false, true] {
        let story = Story::begin(World::new());
        story.world.home.storm(50);
        let note = story.place.data().join("spool/state.json");
        if damaged {
            fs::write(&note, "{").unwrap();
        } else {
            fs::remove_file(&note).unwrap();
        }
        let mut service = story.start();
        service.wait_until_ready();
        service.wait_for_log("bring it in with `ha-ingestor import --from DATE`");
        service.wait_until("the present is stored", |_| story.world.database.has(&story.world.present()));
        assert!(!story.world.database.has(&story.world.expected()), "nobody knows from when on");
        story.world.home.restart();
        service.wait_until("it is there again", |service| service.metric("gaps_closed_total") == 1);
        assert_eq!(service.said("nobody knows until when").len(), 1, "{}", service.log());
        service.stop();
        let day = days_ago(1);
        import(&story, &["--from", &day, "--no-statistics"], 0);
        assert!(story.world.database.has(&story.world.expected()), "the import brings it");
    }
}

fn days_ago(days: i64) -> String {
    hours_ago(24 * days)
}

/// The home has a day of history: what it is asked for is of the middle of it, wherever its first row is.
fn hours_ago(hours: i64) -> String {
    Timestamp::from_micros(clock::now().as_micros() - hours * HOUR * 1_000_000).to_string()
}

/// Runs an import to its end, which has this exit code. Returns what it said.
fn import(story: &Story, arguments: &[&str], code: i32) -> String {
    command(story, "import", arguments, code)
}

fn command(story: &Story, name: &str, arguments: &[&str], code: i32) -> String {
    let options = story.place.data().with_file_name("import-options.json");
    fs::write(&options, story.world.options().to_string()).unwrap();
    let data = story.place.data();
    let place = ["--options", options.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
    let ended = output(&[&[name], arguments, &place].concat());
    assert_eq!(ended.status.code(), Some(code), "{}", printed(&ended));
    printed(&ended)
}

#[test]
fn an_import_takes_everything_through_answers_that_break_and_rows_that_are_none() {
    let story = Story { world: World::new(), place: Place::new() };
    story.world.home.storm(200);
    assert!(story.world.home.set("sensor.gone", "1", Attributes::default()).is_some());
    assert!(story.world.home.remove("sensor.gone").is_some());
    let day = days_ago(2);
    let period = ["--from", &day, "--restart"];
    let told = import(&story, &period, 0);
    assert!(!told.contains("could not be read"), "{told}");
    let (whole, _) = story.world.database.points();
    assert!(whole.len() > 1_000 && story.world.database.has(&story.world.present()), "{told}");

    let again = |change: &dyn Fn()| {
        story.world.database.forget();
        story.world.home.home_mut(|home| home.trouble = Trouble::default());
        change();
        let told = import(&story, &period, 0);
        let (points, _) = story.world.database.points();
        assert!(points == whole, "{} points, not {}: {told}", points.len(), whole.len());
        told
    };
    again(&|| story.world.home.home_mut(|home| home.trouble.largest_answer = Some(100_000)));
    // The connection breaks now and then, for raw history as for statistics.
    again(&|| {
        let faults = std::iter::repeat_n([Fault::No, Fault::No, Fault::No, Fault::Torn], 200).flatten();
        story.world.home.home_mut(|home| home.trouble.faults = faults.collect());
    });
    let told = again(&|| story.world.home.home_mut(|home| home.trouble.damages_rows = true));
    assert!(told.contains("rows could not be read"), "{told}");
}

#[test]
fn an_import_ends_with_what_home_assistant_says_and_the_same_command_goes_on() {
    let story = Story { world: World::new(), place: Place::new() };
    story.world.home.storm(50);
    let day = hours_ago(12);
    story.refuses_everything_after(2);
    let told = import(&story, &["--from", &day], 69);
    story.faults([]);
    assert!(told.contains("Home Assistant refuses: Unknown error (unknown_error)"), "{told}");
    assert!(told.contains("the same command goes on from there"), "{told}");
    story.world.home.home_mut(|home| home.trouble.migrating = true);
    let told = import(&story, &["--from", &day], 69);
    assert!(told.contains("brings its database to a new version: try again when it is done"), "{told}");
    story.world.home.home_mut(|home| home.trouble.migrating = false);
    let told = import(&story, &["--from", &day], 0);
    assert!(told.contains("it went on where it had stopped"), "{told}");
    assert!(story.world.database.has(&story.world.present()), "{told}");
}

#[test]
fn an_import_asks_a_home_with_a_clock_ahead_until_its_own_now() {
    let story = Story { world: World::with_clock(HOUR), place: Place::new() };
    story.world.home.storm(100);
    import(&story, &["--no-statistics"], 0);
    assert!(story.world.database.has(&story.world.expected()), "the last hour as well");
}

#[test]
fn whoever_is_gone_is_imported_under_the_name_it_had() {
    let story = Story::begin(World::new());
    assert!(story.world.home.set("sensor.known", "1", Attributes::default()).is_some());
    let mut service = story.start();
    service.wait_until("everything is stored", |_| story.world.database.has(&story.world.expected()));
    service.wait_until("it is noted", |_| {
        fs::read_to_string(story.place.data().join("entities.json")).unwrap_or_default().contains("sensor.known")
    });
    service.stop();
    assert!(story.world.home.remove("sensor.known").is_some());
    story.world.database.forget();
    import(&story, &["--no-statistics"], 0);
    let (points, _) = story.world.database.points();
    assert!(entities(&points).contains("sensor.known"), "its past is not forgotten");
}

#[test]
fn an_import_of_a_time_before_history_begins_says_when_it_begins() {
    let story = Story { world: World::new(), place: Place::new() };
    let (from, to) = (days_ago(9), days_ago(8));
    let told = import(&story, &["--from", &from, "--to", &to, "--no-statistics"], 0);
    assert!(told.contains("note: Home Assistant's raw history begins at 20"), "{told}");
    assert!(told.contains(": 0 rows of 0 entities"), "{told}");
}

#[test]
fn an_import_of_another_period_does_not_make_a_long_one_forget_where_it_was() {
    let story = Story { world: World::new(), place: Place::new() };
    story.world.home.storm(50);
    let (long, short) = (hours_ago(12), hours_ago(0));
    story.refuses_everything_after(3);
    import(&story, &["--from", &long, "--no-statistics"], 69);
    story.faults([]);
    let before = story.asked();
    story.world.home.storm(1);
    import(&story, &["--from", &short, "--no-statistics"], 0);
    let _ = story.asked();
    let told = import(&story, &["--from", &long, "--no-statistics"], 0);
    assert!(told.contains("it went on where it had stopped"), "{told}");
    let after = story.asked();
    assert!(after[0].0 > before[0].0 + 60.0, "{before:?} {after:?}");
}

#[test]
fn a_damaged_note_of_imports_is_named_and_the_import_begins_anew() {
    let story = Story { world: World::new(), place: Place::new() };
    story.world.home.storm(50);
    for (text, words) in [("{", "import.json is damaged"), (r#"{"version":9}"#, "is of another version")] {
        fs::create_dir_all(story.place.data()).unwrap();
        fs::write(story.place.data().join("import.json"), text).unwrap();
        let told = import(&story, &["--no-statistics"], 0);
        assert!(told.contains(words) && told.contains("this one begins anew"), "{told}");
        assert!(story.world.database.has(&story.world.present()), "{told}");
    }
}

/// History moves to the new name, and what was written before does not.
#[test]
fn what_happened_before_an_entity_got_another_name_stays_under_the_one_it_had() {
    let world = World::new();
    let number = || -> Attributes { [("unit_of_measurement".into(), Held::Text("W".into()))].into_iter().collect() };
    for value in ["1", "2", "3"] {
        assert!(world.home.set("sensor.old", value, number()).is_some());
    }
    let story = Story { world, place: Place::new() };
    let mut service = story.start();
    service.wait_until_ready();
    for value in ["4", "5"] {
        assert!(story.world.home.set("sensor.old", value, number()).is_some());
    }
    service.wait_until("it is noted what it is called", |_| {
        let text = fs::read_to_string(story.place.data().join("entities.json")).unwrap_or_default();
        let noted: Value = serde_json::from_str(&text).unwrap_or_default();
        noted["registered"].as_object().is_some_and(|names| names.values().any(|name| name == "sensor.old"))
    });
    story.world.home.rename("sensor.old", "sensor.new");
    assert!(story.world.home.set("sensor.new", "6", number()).is_some());
    service.wait_for_log("sensor.old is called sensor.new since ");
    service.wait_until("everything is stored", |_| story.world.database.has(&story.world.present()));
    let before = story.world.database.points().0;
    service.stop();
    // The past is written once more, by an import and by closing a gap: nothing of it gets the new name.
    import(&story, &["--no-statistics"], 0);
    story.world.home.storm(10);
    let mut service = story.start();
    service.wait_until("the gap is closed", |service| service.metric("gaps_closed_total") == 1);
    service.stop();
    let after = story.world.database.points().0;
    let of = |points: &BTreeSet<Key>, name: &str| points.iter().filter(|(entity, _)| entity == name).count();
    assert_eq!(
        (of(&before, "sensor.old"), of(&before, "sensor.new")),
        (3, 2),
        "the last before the start, two, and two"
    );
    assert_eq!((of(&after, "sensor.old"), of(&after, "sensor.new")), (5, 2), "and the two before the start");
    let told = command(&story, "verify", &[], 1);
    assert!(told.contains("sensor.old is renamed to sensor.new since 20"), "{told}");
}
