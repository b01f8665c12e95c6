//! Sends dead letters again. What was stored leaves the store, everything else stays in it.

use std::collections::{BTreeMap, HashSet};

use anyhow::Context;

use super::{Complaints, Exit};
use crate::app::voice::Voice;
use crate::cli::Replay;
use crate::config::settings::{Delivery, Settings, Target};
use crate::dead_letters::letter::DeadLetter;
use crate::dead_letters::{FOLDER, LIMIT_BYTES, Store};
use crate::deliver::carrier::{Carried, Carrier};
use crate::influx::in_options_of;
use crate::model::record::{Batch, Record};
use crate::model::time::Timestamp;

/// The store's functions block. Nothing else waits for this thread.
pub(super) async fn run(
    settings: &Settings,
    targets: &[(&str, &Target)],
    wishes: &Replay,
    voice: &mut Voice,
) -> anyhow::Result<Exit> {
    let folder = settings.place.data_dir.join(FOLDER);
    let store = Store::open(&folder, LIMIT_BYTES);
    let reading = || format!("cannot read the dead letters in {}", folder.display());
    let mut letters = store.list(usize::MAX, None).with_context(reading)?;
    letters.reverse();
    let unreadable = store.count().with_context(reading)?.unreadable;
    if unreadable > 0 {
        voice.say(&format!("{unreadable} lines in {} are no dead letters; they stay there", folder.display()));
    }
    let (letters, events): (Vec<_>, Vec<_>) = letters.into_iter().partition(DeadLetter::has_line);
    match events.len() {
        0 if letters.is_empty() => voice.say("no dead letters are kept"),
        0 => {}
        1 => voice.say("1 event never became a line: repair the rule; it is not sent"),
        count => voice.say(&format!("{count} events never became a line: repair the rule; they are not sent")),
    }
    if letters.is_empty() {
        return Ok(Exit::Done);
    }
    if wishes.dry_run {
        voice.say(&table(&letters));
        return Ok(Exit::Done);
    }

    let mut by_target: BTreeMap<String, Vec<DeadLetter>> = BTreeMap::new();
    for letter in letters {
        let name = wishes.target.as_ref().unwrap_or(&letter.target).clone();
        by_target.entry(name).or_default().push(letter);
    }
    let (mut missing, mut left_over) = (false, false);
    for (name, letters) in &by_target {
        let sum = letters.len();
        let Some((_, target)) = targets.iter().find(|(known, _)| known == name) else {
            voice.say(&format!("{name}: {sum} not sent: there is no such target now: name another with --target"));
            missing = true;
            continue;
        };
        let sent = send(&store, letters, (name, target), &settings.delivery, voice).await?;
        let refused = sent.complaints.sum();
        let left = sum as u64 - sent.stored - refused;
        voice.say(&format!("{name}: {} stored, {refused} refused again", sent.stored));
        for line in sent.complaints.lines() {
            voice.say(&line);
        }
        if let Some(words) = sent.gave_up {
            voice.say(&format!("  {left} not sent: {}", in_options_of(name, &words)));
        }
        left_over |= left + refused > 0;
    }
    Ok(match (left_over, missing) {
        (true, _) => Exit::Unavailable,
        (false, true) => Exit::Options,
        (false, false) => Exit::Done,
    })
}

#[derive(Default)]
struct Sent {
    stored: u64,
    complaints: Complaints,
    gave_up: Option<String>,
}

async fn send(
    store: &Store,
    letters: &[DeadLetter],
    (name, target): (&str, &Target),
    delivery: &Delivery,
    voice: &mut Voice,
) -> anyhow::Result<Sent> {
    let mut carrier = Carrier::open(target, delivery)?;
    let mut sent = Sent::default();
    let mut next = 0;
    while next < letters.len() && sent.gave_up.is_none() {
        let batch = batch(letters, next, delivery);
        let first = next;
        next += batch.len();
        let Carried { through, refused, gave_up } = carrier.carry(batch, &mut |words| voice.retrying(words)).await;
        let settled = through.map_or(first, |id| place(id) + 1);
        for refused in &refused {
            sent.complaints.add(&refused.words);
        }
        let refused: HashSet<usize> = refused.iter().map(|refused| place(refused.id)).collect();
        let stored: HashSet<String> =
            (first..settled).filter(|at| !refused.contains(at)).map(|at| letters[at].id.clone()).collect();
        store.remove(&stored).context("cannot remove dead letters that are stored now")?;
        sent.stored += stored.len() as u64;
        sent.gave_up = gave_up;
        voice.progress(|| format!("{name}: {settled} of {}", letters.len()));
    }
    Ok(sent)
}

/// The ids of its records are the places of the letters.
fn batch(letters: &[DeadLetter], from: usize, delivery: &Delivery) -> Batch {
    let mut batch = Batch::default();
    let mut line = Vec::new();
    for (at, letter) in letters.iter().enumerate().skip(from).take(delivery.batch_points.get()) {
        line.clear();
        line.extend_from_slice(letter.line.as_bytes());
        line.push(b'\n');
        if !batch.is_empty() && batch.bytes().len() + line.len() > delivery.batch_bytes.get() {
            break;
        }
        batch.push(at as u64, Record { time: letter.time, context: letter.context, bytes: &line });
    }
    batch
}

fn place(id: u64) -> usize {
    usize::try_from(id).expect("it was a place in a list")
}

/// How many there are, by target and by what the server said, and when their events happened.
fn table(letters: &[DeadLetter]) -> String {
    let mut rows: BTreeMap<(&str, &str), (u64, Timestamp, Timestamp)> = BTreeMap::new();
    for letter in letters {
        let row = rows.entry((&letter.target, &letter.words)).or_insert((0, letter.time, letter.time));
        *row = (row.0 + 1, row.1.min(letter.time), row.2.max(letter.time));
    }
    let head = format!("{:>7}  {:<10}  {:<27}  {:<27}  words", "letters", "target", "oldest", "newest");
    rows.iter().fold(head, |table, ((target, words), (count, oldest, newest))| {
        let (oldest, newest) = (oldest.to_string(), newest.to_string());
        format!("{table}\n{count:>7}  {target:<10}  {oldest:<27}  {newest:<27}  {words}")
    })
}
