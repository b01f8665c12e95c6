//! Patterns for entity ids: Python's `fnmatch`, case-sensitive, over the whole text.
//!
//! `*` is any text, `?` one character, `[a-c]` one of these characters, `[!a-c]` one other. Every text is a pattern: a
//! bracket that is never closed stands for itself. It is not made into a regular expression, because those can become
//! too large; a filter runs once per entity and need not be fast.

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    AnyText,
    AnyCharacter,
    Character(char),
    /// Ranges with both ends.
    OneOf {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Glob {
    #[must_use]
    pub fn new(pattern: &str) -> Self {
        let pattern: Vec<char> = pattern.chars().collect();
        let mut parts = Vec::new();
        let mut at = 0;
        while at < pattern.len() {
            let (part, length) = match pattern[at] {
                '*' => (Part::AnyText, 1),
                '?' => (Part::AnyCharacter, 1),
                '[' => one_of(&pattern[at..]).unwrap_or((Part::Character('['), 1)),
                other => (Part::Character(other), 1),
            };
            parts.push(part);
            at += length;
        }
        Self(parts)
    }

    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let mut part = 0;
        let mut rest = text.chars();
        // What comes after the last `*`, and the text that this `*` has not swallowed yet. Earlier ones need no second
        // try: whatever they could give up, the last one can take.
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let before = rest.clone();
            let fits = match (self.0.get(part), rest.next()) {
                (Some(Part::AnyText), _) => {
                    rest = before;
                    retry = Some((part + 1, rest.clone()));
                    true
                }
                (Some(part), Some(c)) => part.fits(c),
                (None, None) => return true,
                (Some(_), None) | (None, Some(_)) => false,
            };
            if fits {
                part += 1;
                continue;
            }
            let Some((after, unswallowed)) = &mut retry else {
                return false;
            };
            if unswallowed.next().is_none() {
                return false;
            }
            (part, rest) = (*after, unswallowed.clone());
        }
    }
}

impl Part {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::AnyText | Self::AnyCharacter => true,
            Self::Character(own) => *own == c,
            Self::OneOf { negated, ranges } => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated,
        }
    }
}

/// Reads `[...]` at the start of `pattern`, with its length; `None` if it is never closed.
fn one_of(pattern: &[char]) -> Option<(Part, usize)> {
    let negated = pattern.get(1) == Some(&'!');
    let start = if negated { 2 } else { 1 };
    // A bracket that closes nothing is one of the characters: `[]x]`.
    let first = usize::from(pattern.get(start) == Some(&']'));
    let end = start + first + pattern.get(start + first..)?.iter().position(|c| *c == ']')?;

    let mut ranges = Vec::new();
    let mut members = &pattern[start..end];
    while let [low, rest @ ..] = members {
        members = match rest {
            // A range that is empty, such as `z-a`, holds nothing.
            ['-', high, rest @ ..] => {
                ranges.push((*low, *high));
                rest
            }
            _ => {
                ranges.push((*low, *low));
                rest
            }
        };
    }
    Some((Part::OneOf { negated, ranges }, end + 1))
}

#[cfg(test)]
mod tests {
    use super::Glob;

    fn check(pattern: &str, matching: &[&str], other: &[&str]) {
        for text in matching {
            assert!(Glob::new(pattern).matches(text), "{pattern} and {text}");
        }
        for text in other {
            assert!(!Glob::new(pattern).matches(text), "{pattern} and {text}");
        }
    }

    #[test]
    fn patterns_match_as_fnmatch_does() {
        check("sensor.*_temp", &["sensor._temp", "sensor.a_temp_temp"], &["sensor.a_temp2", "xsensor.a_temp"]);
        check("*a*b*c", &["abc", "aabbcabc"], &["abcd", "acb"]);
        check("light.?", &["light.a", "light.ö"], &["light.", "light.ab"]);
        check("light.[a-c1]", &["light.b", "light.1"], &["light.d", "light.-"]);
        check("light.[!a-c]", &["light.d", "light.!"], &["light.a", "light."]);
        check("[]x]", &["]", "x"], &["[]x]"]);
        check("[!]x]", &["a"], &["]", "x"]);
        check("[a-]", &["a", "-"], &["b"]);
        check("[-a]", &["a", "-"], &["b"]);
        check("[z-a]", &[], &["z", "a", "-"]);
        check("[!z-a]", &["z", "\n"], &[""]);
        check("[!]", &["[!]"], &["!"]);
        check("[a", &["[a"], &["a"]);
        check("a\\*", &["a\\b"], &["a*"]);
        check("Sensor.*", &[], &["sensor.a"]);
        check("", &[""], &["a"]);
        check("**", &["", "a\nb"], &[]);
        check("[^a]", &["^", "a"], &["b"]);
    }
}
