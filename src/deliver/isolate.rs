//! Finds the bad lines of a batch: decides, answer by answer, which part is sent next.
//!
//! A part that is refused as a whole is halved. One bad line among n costs at most 2 log2(n) requests more than none,
//! and only a line that was refused by itself, or by name, is set aside. Parts are sent in the order of their ids, so
//! what is settled is always a beginning of the batch.

use crate::model::event::ContextId;
use crate::model::fate::{Rejection, SetAside};
use crate::model::record::{Batch, Record};
use crate::model::time::Timestamp;

use super::verdict::{Certainty, Others, Refusal, Verdict, rejection};

/// What is left of a batch.
pub struct Isolation {
    /// The next one is the last: they are in the reverse order of their ids.
    parts: Vec<Part>,
    /// Single lines that were refused with words that we do not know, before any line was taken; or over which the
    /// server failed, and no line was taken since.
    suspects: Vec<Suspect>,
    refused: Vec<Refused>,
    newest_stored: Option<Timestamp>,
    /// The id of the last line.
    end: u64,
    /// Failures with unknown words that are left before we blame the environment.
    patience: u32,
    longest_patience: u32,
}

struct Part {
    batch: Batch,
    /// The next part is the other half of a part that was at fault: if this half is stored, that one is at fault.
    clears_itself: bool,
    /// One line over which the server failed once; then it took another.
    is_second_try: bool,
}

struct Suspect {
    line: Batch,
    certain: Certainty,
    words: String,
}

/// A line that will not be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub id: u64,
    pub reason: Rejection,
    pub words: String,
    /// Of the event.
    pub time: Timestamp,
    pub context: Option<ContextId>,
    pub line: Vec<u8>,
}

/// What to do after an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Send [`Isolation::next`], if there is one.
    Go,
    /// Wait, then begin again with what was not settled.
    Retry { after: Option<std::time::Duration>, words: String },
    /// As `Retry`, but a person has to do something.
    Hold { words: String },
}

/// A beginning of the batch of which everything is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The last id of it.
    pub through: u64,
    /// The lines of it that were not stored, by their ids.
    pub refused: Vec<Refused>,
    /// The latest event that the database took so far.
    pub newest_stored: Option<Timestamp>,
}

impl Isolation {
    /// `None` for a batch without lines.
    #[must_use]
    pub fn of(batch: Batch) -> Option<Self> {
        let end = batch.id(batch.len().checked_sub(1)?);
        // The way down to the first single line, and one sibling on each level of the way back.
        let patience = 2 * batch.len().ilog2() + 1;
        Some(Self {
            parts: vec![Part::of(batch)],
            suspects: Vec::new(),
            refused: Vec::new(),
            newest_stored: None,
            end,
            patience,
            longest_patience: patience,
        })
    }

    /// The lines to send now. `None`: the batch is settled.
    #[must_use]
    pub fn next(&self) -> Option<&Batch> {
        self.parts.last().map(|part| &part.batch)
    }

    /// Takes the verdict on the lines that [`Self::next`] gave.
    pub fn handle(&mut self, verdict: Verdict) -> Step {
        let Some(part) = self.parts.pop() else { return Step::Go };
        match verdict {
            Verdict::Stored => self.handle_stored(&part),
            Verdict::Refused { lines, others } => self.handle_refused(part, &lines, others),
            Verdict::Isolate { certain: Certainty::Suspected, words } if self.newest_stored.is_none() => {
                return self.handle_suspicion(part, Certainty::Suspected, words);
            }
            Verdict::Isolate { certain: Certainty::Doubted, words } if !part.is_second_try => {
                return self.handle_suspicion(part, Certainty::Doubted, words);
            }
            Verdict::Isolate { words, .. } => self.halve_or_refuse(part.batch, true, rejection(&words), words),
            Verdict::Split { words, .. } => {
                self.halve_or_refuse(part.batch, false, Rejection::SetAside(SetAside::TooLarge), words);
            }
            Verdict::Retry { after, words } => {
                self.parts.push(part);
                return Step::Retry { after, words };
            }
            Verdict::Hold { words } => {
                self.parts.push(part);
                return Step::Hold { words };
            }
        }
        self.step()
    }

    /// What has become known since the last call. `None` if the beginning has not moved.
    #[must_use]
    pub fn settle(&mut self) -> Option<Settled> {
        let open = self
            .parts
            .last()
            .map(|part| &part.batch)
            .into_iter()
            .chain(self.suspects.first().map(|suspect| &suspect.line));
        let first_open = open.map(|batch| batch.id(0)).min();
        let through = match first_open {
            Some(id) => id.checked_sub(1)?,
            None => self.end,
        };
        self.refused.sort_by_key(|refused| refused.id);
        let known = self.refused.partition_point(|refused| refused.id <= through);
        let refused = self.refused.drain(..known).collect();
        Some(Settled { through, refused, newest_stored: self.newest_stored })
    }

    fn handle_stored(&mut self, part: &Part) {
        if part.clears_itself
            && let Some(other) = self.parts.pop_if(|other| other.batch.len() > 1)
        {
            self.halve(other.batch, true);
        }
        self.accept(&part.batch);
    }

    fn handle_refused(&mut self, mut part: Part, lines: &[Refusal], others: Others) {
        let places: Vec<usize> = lines.iter().map(|refusal| refusal.line).collect();
        for refusal in lines {
            self.refuse(&part.batch, refusal.line, refusal.reason, refusal.words.clone());
        }
        part.batch.remove(&places);
        if part.batch.is_empty() {
            return;
        }
        match others {
            Others::Stored => self.accept(&part.batch),
            Others::SendAgain => self.parts.push(Part { clears_itself: false, ..part }),
        }
    }

    /// It may be the lines or the server.
    fn handle_suspicion(&mut self, part: Part, certain: Certainty, words: String) -> Step {
        if self.patience == 0 {
            self.parts.push(part);
            return wait(certain, words);
        }
        self.patience -= 1;
        match part.batch.len() {
            1 => self.suspects.push(Suspect { line: part.batch, certain, words }),
            _ => self.halve(part.batch, true),
        }
        self.step()
    }

    /// When nothing is left to send and nothing was taken, it was not the lines.
    fn step(&self) -> Step {
        match self.suspects.first() {
            Some(Suspect { certain, words, .. }) if self.parts.is_empty() => wait(*certain, words.clone()),
            _ => Step::Go,
        }
    }

    fn halve_or_refuse(&mut self, batch: Batch, at_fault: bool, reason: Rejection, words: String) {
        match batch.len() {
            1 => self.refuse(&batch, 0, reason, words),
            _ => self.halve(batch, at_fault),
        }
    }

    fn halve(&mut self, mut batch: Batch, at_fault: bool) {
        let right = batch.split_off(batch.len() / 2);
        self.parts.push(Part::of(right));
        self.parts.push(Part { clears_itself: at_fault, ..Part::of(batch) });
    }

    fn accept(&mut self, batch: &Batch) {
        self.newest_stored = self.newest_stored.max(batch.newest());
        self.patience = self.longest_patience;
        for Suspect { line, certain, words } in std::mem::take(&mut self.suspects).into_iter().rev() {
            if certain == Certainty::Doubted {
                // It may have recovered just now.
                self.parts.push(Part { is_second_try: true, ..Part::of(line) });
            } else {
                // The database works: so it was the line.
                self.refuse(&line, 0, rejection(&words), words);
            }
        }
    }

    fn refuse(&mut self, batch: &Batch, line: usize, reason: Rejection, words: String) {
        let Record { time, context, bytes } = batch.get(line);
        self.refused.push(Refused { id: batch.id(line), reason, words, time, context, line: bytes.to_vec() });
    }
}

impl Part {
    fn of(batch: Batch) -> Self {
        Self { batch, clears_itself: false, is_second_try: false }
    }
}

/// What to do when the lines are not to blame.
fn wait(certain: Certainty, words: String) -> Step {
    match certain {
        Certainty::Doubted => Step::Retry { after: None, words },
        Certainty::Certain | Certainty::Suspected => Step::Hold { words },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::{Just, Strategy, prop_oneof};
    use proptest::{collection, prop_assert, prop_assert_eq, proptest};

    use super::{Isolation, Step};
    use crate::deliver::verdict::{Certainty, Others, Refusal, SizeLimit, Verdict};
    use crate::model::fate::{Rejection, SetAside};
    use crate::model::record::Batch;
    use crate::model::record::Record;
    use crate::model::time::Timestamp;

    /// How a server treats a batch with bad lines.
    #[derive(Debug, Clone, Copy)]
    enum Server {
        /// Stores the good ones and names nobody: type conflicts in InfluxDB 1 and 2.
        Silent,
        /// As `Silent`, with words that we do not know, and stores nothing.
        Strange,
        /// Fails for each part with a bad line.
        Failing,
        /// Names all and stores nothing: InfluxDB 2.
        NamesAll,
        /// Names all and stores the others: InfluxDB 3.
        StoresOthers,
        /// Names the first and stores nothing.
        NamesFirst,
        /// Takes so many lines at once.
        Small(usize),
    }

    struct Outcome {
        stored: BTreeSet<u64>,
        refused: Vec<u64>,
        through: Option<u64>,
        requests: usize,
        held: bool,
    }

    const FIRST_ID: u64 = 100;

    fn batch(count: usize) -> Batch {
        let mut batch = Batch::default();
        for id in (FIRST_ID..).take(count) {
            batch.push(id, Record { time: Timestamp::from_micros(0), context: None, bytes: b"line\n" });
        }
        batch
    }

    fn judge(server: Server, part: &Batch, bad: &BTreeSet<u64>, stored: &mut BTreeSet<u64>) -> Verdict {
        let mut lines = (0..part.len()).filter(|at| bad.contains(&part.id(*at)));
        let words = || "no".to_owned();
        let refusal = |line| Refusal { line, reason: Rejection::SetAside(SetAside::RefusedByDatabase), words: words() };
        let good = (0..part.len()).map(|at| part.id(at)).filter(|id| !bad.contains(id));
        if let Server::Small(limit) = server
            && part.len() > limit
        {
            return Verdict::Split { limit: SizeLimit::Said, words: words() };
        }
        let Some(first) = lines.next() else {
            stored.extend(good);
            return Verdict::Stored;
        };
        let all = std::iter::once(first).chain(lines).map(refusal).collect();
        match server {
            Server::Silent | Server::Small(_) => {
                stored.extend(good);
                Verdict::Isolate { certain: Certainty::Certain, words: words() }
            }
            Server::Failing => Verdict::Isolate { certain: Certainty::Doubted, words: words() },
            Server::Strange => Verdict::Isolate { certain: Certainty::Suspected, words: words() },
            Server::NamesAll => Verdict::Refused { lines: all, others: Others::SendAgain },
            Server::NamesFirst => Verdict::Refused { lines: vec![refusal(first)], others: Others::SendAgain },
            Server::StoresOthers => {
                stored.extend(good);
                Verdict::Refused { lines: all, others: Others::Stored }
            }
        }
    }

    fn deliver(server: Server, count: usize, bad: &BTreeSet<u64>) -> Outcome {
        let mut isolation = Isolation::of(batch(count)).unwrap();
        let mut outcome =
            Outcome { stored: BTreeSet::new(), refused: Vec::new(), through: None, requests: 0, held: false };
        while let Some(part) = isolation.next() {
            outcome.requests += 1;
            let verdict = judge(server, part, bad, &mut outcome.stored);
            let step = isolation.handle(verdict);
            if let Some(settled) = isolation.settle() {
                assert!(outcome.through <= Some(settled.through), "what is settled stays settled");
                outcome.through = Some(settled.through);
                outcome.refused.extend(settled.refused.iter().map(|refused| refused.id));
                // Everything up to here is either stored or set aside at this moment.
                for id in FIRST_ID..=settled.through {
                    assert!(outcome.stored.contains(&id) || outcome.refused.contains(&id), "{id} is settled, but lost");
                }
            }
            if step != Step::Go {
                outcome.held = true;
                break;
            }
        }
        outcome
    }

    fn server() -> impl Strategy<Value = Server> {
        prop_oneof![
            Just(Server::Silent),
            Just(Server::NamesAll),
            Just(Server::StoresOthers),
            Just(Server::NamesFirst),
            (1..40_usize).prop_map(Server::Small),
        ]
    }

    proptest! {
        #[test]
        fn exactly_the_bad_lines_are_set_aside(
            server in server(),
            count in 1..200_usize,
            bad in collection::btree_set(FIRST_ID..FIRST_ID + 200, 0..20),
        ) {
            let end = FIRST_ID + count as u64 - 1;
            let bad: BTreeSet<u64> = bad.into_iter().filter(|id| *id <= end).collect();
            let outcome = deliver(server, count, &bad);
            prop_assert!(!outcome.held);
            prop_assert_eq!(outcome.through, Some(end));
            prop_assert_eq!(outcome.refused, bad.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(outcome.stored.len(), count - bad.len());
        }

        #[test]
        fn words_that_we_do_not_know_cost_data_only_if_other_lines_are_taken(
            count in 1..200_usize,
            bad in collection::btree_set(FIRST_ID..FIRST_ID + 200, 0..200),
        ) {
            let bad: BTreeSet<u64> = bad.into_iter().filter(|id| *id < FIRST_ID + count as u64).collect();
            let outcome = deliver(Server::Strange, count, &bad);
            if bad.len() == count {
                prop_assert!(outcome.held && outcome.refused.is_empty() && outcome.through.is_none_or(|id| id < FIRST_ID));
            }
            if !outcome.held {
                prop_assert_eq!(&outcome.refused, &bad.iter().copied().collect::<Vec<_>>());
            }
            prop_assert!(outcome.refused.is_empty() || !outcome.stored.is_empty());
        }
    }

    #[test]
    fn one_bad_line_costs_at_most_twice_the_logarithm() {
        for count in (1..70).chain([1_000, 5_000]) {
            for server in [Server::Silent, Server::NamesAll, Server::StoresOthers, Server::Strange] {
                for at in (0..count).step_by(1 + count / 70).chain([count - 1]) {
                    let outcome = deliver(server, count, &BTreeSet::from([FIRST_ID + at as u64]));
                    let extra = outcome.requests - 1;
                    // The whole part of 2 log2(count).
                    let bound = (count * count).ilog2() as usize;
                    assert!(extra <= bound, "{server:?}: {extra} more for line {at} of {count}");
                }
            }
        }
    }

    #[test]
    fn a_server_that_takes_nothing_is_not_asked_for_ever() {
        let all = (FIRST_ID..FIRST_ID + 5_000).collect();
        let outcome = deliver(Server::Strange, 5_000, &all);
        assert!(outcome.held && outcome.requests <= 26, "{} requests", outcome.requests);
    }

    #[test]
    fn what_waits_is_not_settled() {
        let mut isolation = Isolation::of(batch(4)).unwrap();
        let retry = || Verdict::Retry { after: None, words: "later".into() };
        assert!(matches!(isolation.handle(retry()), Step::Retry { .. }));
        assert!(isolation.settle().is_none_or(|settled| settled.through < FIRST_ID));
        let _ = isolation.handle(Verdict::Split { limit: SizeLimit::Said, words: String::new() });
        assert_eq!(isolation.handle(Verdict::Stored), Step::Go);
        assert_eq!(isolation.settle().unwrap().through, FIRST_ID + 1);
        assert!(matches!(isolation.handle(Verdict::Hold { words: String::new() }), Step::Hold { .. }));
        assert_eq!(isolation.settle().unwrap().through, FIRST_ID + 1);
    }

    #[test]
    fn a_line_is_at_fault_when_the_server_fails_over_it_twice_and_takes_another_in_between() {
        for count in [2, 3, 64, 100] {
            for at in 0..count - 1 {
                let bad = BTreeSet::from([FIRST_ID + at]);
                let outcome = deliver(Server::Failing, usize::try_from(count).unwrap(), &bad);
                assert!(!outcome.held && outcome.refused == [FIRST_ID + at], "{at} of {count}: {:?}", outcome.refused);
            }
        }
        // No line follows the last one: it waits for the next batch.
        let outcome = deliver(Server::Failing, 8, &BTreeSet::from([FIRST_ID + 7]));
        assert!(outcome.held && outcome.refused.is_empty() && outcome.through == Some(FIRST_ID + 6));
        let all = (FIRST_ID..FIRST_ID + 5_000).collect();
        let outcome = deliver(Server::Failing, 5_000, &all);
        assert!(outcome.held && outcome.refused.is_empty() && outcome.requests <= 26, "{} requests", outcome.requests);
    }

    #[test]
    fn a_server_that_recovers_while_the_lines_are_looked_at_costs_none() {
        for failures in 1..30 {
            let mut isolation = Isolation::of(batch(100)).unwrap();
            let mut requests = 0;
            let mut step = Step::Go;
            while step == Step::Go && isolation.next().is_some() {
                requests += 1;
                step = isolation.handle(match requests {
                    ..=30 if requests <= failures => {
                        Verdict::Isolate { certain: Certainty::Doubted, words: "no".into() }
                    }
                    _ => Verdict::Stored,
                });
            }
            assert!(isolation.settle().is_none_or(|settled| settled.refused.is_empty()), "after {failures} failures");
        }
    }
}
