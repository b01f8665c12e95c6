//! What goes wrong with the simulated recorder, as it does with real ones.

use std::collections::VecDeque;

/// What becomes of one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: it is answered.
    No,
    /// Home Assistant could not ask its database.
    Refused,
    /// The connection ends in the middle of the answer.
    Torn,
}

/// Questions about the past are those for raw history and for statistics.
#[derive(Debug, Clone, Default)]
pub struct Trouble {
    /// The database is brought to a new version.
    pub migrating: bool,
    /// What happens to the next questions about the past, in their order; those after them are answered.
    pub faults: VecDeque<Fault>,
    /// More bytes than this break the connection before any of them arrives, as at the proxy of the Supervisor.
    pub largest_answer: Option<usize>,
    /// Entity whose history every request is refused for.
    pub refuses: Option<String>,
    /// Never confirms a commit, like a server that only resembles Home Assistant.
    pub never_commits: bool,
    /// Each entity has rows and hours that are none among its own, an entity that nobody asked about has some as well, and the
    /// list of statistics has some that describe none.
    pub damages_rows: bool,
    /// From when to when the past was asked for, in seconds; without questions for the state of one moment.
    pub asked: Vec<(f64, f64)>,
}

impl Trouble {
    /// Returns whether a request with these arguments is refused because of its entity.
    pub(super) fn refuses(&self, arguments: &serde_json::Map<String, serde_json::Value>) -> bool {
        let Some(refused) = &self.refuses else { return false };
        let asked = arguments.get("entity_ids").and_then(serde_json::Value::as_array);
        // The state of a moment is another question.
        let is_of_a_moment = arguments.get("minimal_response") == Some(&true.into());
        !is_of_a_moment && asked.is_some_and(|asked| asked.iter().any(|entity| entity == refused))
    }

    pub(super) fn next_fault(&mut self) -> Fault {
        self.faults.pop_front().unwrap_or(Fault::No)
    }

    /// The result, with whatever is wrong with its rows.
    pub(super) fn damage(&self, result: String) -> String {
        if !self.damages_rows {
            return result;
        }
        let mut damaged = result
            .replace(":[{\"s\":", ":[7,{\"s\":\"x\",\"a\":{},\"lu\":\"noon\"},{\"s\":")
            .replace(":[{\"start\":", ":[7,{\"start\":\"noon\"},{\"start\":0,\"mean\":\"warm\"},{\"start\":")
            .replace("[{\"statistic_id\":", "[7,{\"statistic_id\":null},{\"statistic_id\":");
        if let Some((_, last)) = result.rsplit_once("\"lu\":") {
            let time: String = last.chars().take_while(|char| char.is_ascii_digit() || *char == '.').collect();
            damaged.insert_str(1, &format!("\"sensor.foreign\":[{{\"s\":\"1\",\"a\":{{}},\"lu\":{time}}}],"));
        }
        damaged
    }

    /// How much of the message gets through. `None`: all of it.
    pub(super) fn through(&self, fault: Fault, message: &str) -> Option<usize> {
        match self.largest_answer {
            Some(limit) if message.len() > limit => Some(0),
            _ => (fault == Fault::Torn).then_some(message.len() / 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Trouble};

    #[test]
    fn each_fault_is_that_of_one_question() {
        let mut trouble = Trouble { faults: [Fault::Torn, Fault::Refused].into(), ..Trouble::default() };
        let faults = [trouble.next_fault(), trouble.next_fault(), trouble.next_fault()];
        assert_eq!(faults, [Fault::Torn, Fault::Refused, Fault::No]);
    }

    #[test]
    fn what_is_too_large_does_not_get_through_and_what_is_torn_does_to_its_middle() {
        let trouble = Trouble { largest_answer: Some(3), ..Trouble::default() };
        assert_eq!(trouble.through(Fault::No, "123"), None);
        assert_eq!(trouble.through(Fault::Torn, "12"), Some(1));
        assert_eq!(trouble.through(Fault::Torn, "1234"), Some(0));
    }
}
