//! Decides which complaints of the server are worth a line in the log: each once in ten minutes, with a count.

use std::time::Instant;

use crate::runtime::repeats::EVERY;

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
        let is_due = |said: Option<Instant>| said.is_none_or(|said| now.saturating_duration_since(said) >= EVERY);
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

    use super::Complaints;

    const MINUTE: Duration = Duration::from_mins(1);

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
