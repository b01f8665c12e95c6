//! Tells a line that makes the server fail from a server that fails: when the same failure comes again and again, the
//! lines are looked at one by one.

use crate::influx::Answer;

use super::verdict::{Certainty, Verdict};

/// How often the server failed in the same way, with nothing else in between.
#[derive(Debug, Default)]
pub(super) struct Stuck {
    words: String,
    times: u32,
}

impl Stuck {
    /// A restart or a short illness is over by then, and the queue is far from full.
    const ENOUGH: u32 = 10;

    /// Looking costs a few requests at once: it is not done again before the failure has come as often again.
    pub(super) fn next_batch(&mut self) {
        if self.is_looking() {
            self.times = 0;
        }
    }

    /// The verdict, or the suspicion that takes its place.
    ///
    /// `is_probe`: a few lines that were taken say nothing about the batch that was not.
    pub(super) fn handle(&mut self, answer: &Answer, verdict: Verdict, is_probe: bool) -> Verdict {
        match verdict {
            // Other statuses say that it is not the lines: too busy, or a proxy whose server is away.
            Verdict::Retry { words, after } if matches!(answer, Answer::Reply(reply) if reply.status == 500) => {
                if self.words != words {
                    *self = Self { words: words.clone(), times: 0 };
                }
                self.times += 1;
                if self.is_looking() {
                    Verdict::Isolate { certain: Certainty::Doubted, words }
                } else {
                    Verdict::Retry { words, after }
                }
            }
            Verdict::Retry { .. } | Verdict::Hold { .. } => {
                self.times = 0;
                verdict
            }
            _ => {
                if !self.is_looking() && !is_probe {
                    self.times = 0;
                }
                verdict
            }
        }
    }

    fn is_looking(&self) -> bool {
        self.times > Self::ENOUGH
    }
}

#[cfg(test)]
mod tests {
    use super::Stuck;
    use crate::deliver::verdict::{Certainty, Verdict};
    use crate::influx::reply::Reply;
    use crate::influx::{Answer, Dialect};

    fn failed(stuck: &mut Stuck, status: u16, words: &str) -> bool {
        let reply = Reply { dialect: Dialect::V1, status, retry_after: None, body: Vec::new() };
        let verdict = Verdict::Retry { after: None, words: words.to_owned() };
        let verdict = stuck.handle(&Answer::Reply(reply), verdict, false);
        matches!(verdict, Verdict::Isolate { certain: Certainty::Doubted, .. })
    }

    #[test]
    fn the_same_failure_again_and_again_may_be_the_lines() {
        let mut stuck = Stuck::default();
        for _ in 0..Stuck::ENOUGH {
            stuck.next_batch();
            assert!(!failed(&mut stuck, 500, "a"));
        }
        stuck.next_batch();
        assert!(failed(&mut stuck, 500, "a"));
        let _ = stuck.handle(&Answer::Filed, Verdict::Stored, false);
        assert!(failed(&mut stuck, 500, "a"), "the lines of one batch are looked at to the end");
        stuck.next_batch();
        assert!(!failed(&mut stuck, 500, "a"));
    }

    /// The breaker probes with other lines than those that make the server fail.
    #[test]
    fn a_probe_that_is_taken_does_not_start_the_count_anew() {
        let mut stuck = Stuck::default();
        for _ in 0..Stuck::ENOUGH {
            stuck.next_batch();
            assert!(!failed(&mut stuck, 500, "a"));
            let _ = stuck.handle(&Answer::Filed, Verdict::Stored, true);
        }
        stuck.next_batch();
        assert!(failed(&mut stuck, 500, "a"));
    }

    #[test]
    fn what_changes_or_is_not_a_failure_of_the_server_is_not_the_lines() {
        let mut stuck = Stuck::default();
        for at in 0..5 * Stuck::ENOUGH {
            stuck.next_batch();
            assert!(!failed(&mut stuck, 500, if at % 7 == 0 { "a" } else { "b" }));
        }
        for _ in 0..5 * Stuck::ENOUGH {
            stuck.next_batch();
            assert!(!failed(&mut stuck, 503, "a"));
        }
    }
}
