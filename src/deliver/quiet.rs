//! Decides what is worth a line in the log: the beginning of a fault, a sign of life every ten minutes, its end; and
//! each complaint of the server once in ten minutes, with a count.

use std::time::{Duration, Instant};

const AGAIN: Duration = Duration::from_mins(10);

/// A time in which nothing can be written.
#[derive(Debug, Default)]
pub(super) struct Outage(Option<Fault>);

#[derive(Debug)]
struct Fault {
    since: Instant,
    failures: u64,
    said: Instant,
    needs_a_person: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Say {
    /// It begins, or it is of another kind than before.
    Begins,
    StillFails {
        failures: u64,
        lasts: Duration,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) lasted: Duration,
    pub(super) failures: u64,
}

impl Outage {
    pub(super) fn failed(&mut self, needs_a_person: bool, now: Instant) -> Option<Say> {
        let Some(fault) = &mut self.0 else {
            self.0 = Some(Fault { since: now, failures: 1, said: now, needs_a_person });
            return Some(Say::Begins);
        };
        fault.failures += 1;
        let say = if fault.needs_a_person != needs_a_person {
            Say::Begins
        } else if now.saturating_duration_since(fault.said) >= AGAIN {
            Say::StillFails { failures: fault.failures, lasts: now.saturating_duration_since(fault.since) }
        } else {
            return None;
        };
        fault.said = now;
        fault.needs_a_person = needs_a_person;
        Some(say)
    }

    /// Something was written.
    pub(super) fn end(&mut self, now: Instant) -> Option<Ended> {
        let fault = self.0.take()?;
        Some(Ended { lasted: now.saturating_duration_since(fault.since), failures: fault.failures })
    }
}

/// What the server says about lines that it refuses.
#[derive(Debug, Default)]
pub(super) struct Complaints(Vec<Complaint>);

#[derive(Debug)]
struct Complaint {
    words: String,
    lines: u64,
    said: Option<Instant>,
}

impl Complaints {
    /// Different complaints that are remembered. One more, and the oldest is forgotten.
    const MOST: usize = 32;

    /// Another line was refused with these words.
    pub(super) fn add(&mut self, words: &str) {
        if let Some(known) = self.0.iter_mut().find(|complaint| complaint.words == words) {
            known.lines += 1;
            return;
        }
        if self.0.len() == Self::MOST {
            self.0.remove(0);
        }
        self.0.push(Complaint { words: words.to_owned(), lines: 1, said: None });
    }

    /// The complaints to be told now, with the number of lines since they were told last.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(u64, &str)> {
        let is_due = |said: Option<Instant>| said.is_none_or(|said| now.saturating_duration_since(said) >= AGAIN);
        let due = self.0.iter_mut().filter(|complaint| complaint.lines > 0 && is_due(complaint.said));
        due.map(|complaint| {
            complaint.said = Some(now);
            (std::mem::take(&mut complaint.lines), complaint.words.as_str())
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Complaints, Ended, Outage, Say};

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn an_outage_is_told_when_it_begins_every_ten_minutes_and_when_it_ends() {
        let start = Instant::now();
        let mut outage = Outage::default();
        assert_eq!(outage.failed(false, start), Some(Say::Begins));
        let said: Vec<Say> = (1..=21).filter_map(|minute| outage.failed(false, start + minute * MINUTE)).collect();
        let still = |failures, minutes| Say::StillFails { failures, lasts: minutes * MINUTE };
        assert_eq!(said, [still(11, 10), still(21, 20)]);
        assert_eq!(outage.failed(true, start + 22 * MINUTE), Some(Say::Begins), "now somebody has to act");
        assert_eq!(outage.end(start + 23 * MINUTE), Some(Ended { lasted: 23 * MINUTE, failures: 23 }));
        assert_eq!(outage.end(start + 24 * MINUTE), None);
    }

    #[test]
    fn a_complaint_is_told_once_in_ten_minutes_with_its_count() {
        let start = Instant::now();
        let mut complaints = Complaints::default();
        complaints.add("a");
        complaints.add("a");
        complaints.add("b");
        assert_eq!(complaints.due(start), [(2, "a"), (1, "b")]);
        complaints.add("a");
        assert_eq!(complaints.due(start + 9 * MINUTE), []);
        complaints.add("a");
        assert_eq!(complaints.due(start + 10 * MINUTE), [(2, "a")]);
        for words in 0..1_000 {
            complaints.add(&words.to_string());
        }
        assert!(complaints.0.len() <= Complaints::MOST);
    }
}
