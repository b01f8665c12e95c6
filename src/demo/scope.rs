//! Which entities a subscription covers: ids, or include and exclude lists with Home Assistant's precedence.
//!
//! It is written apart from the filter of the pipeline, so that a test of one against the other finds a mistake in
//! either. Patterns know `*` and `?` only.

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scope {
    #[serde(default)]
    entity_ids: Vec<String>,
    #[serde(default)]
    include: Lists,
    #[serde(default)]
    exclude: Lists,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Lists {
    domains: Vec<String>,
    entities: Vec<String>,
    entity_globs: Vec<String>,
}

impl Scope {
    #[must_use]
    pub fn covers(&self, entity_id: &str) -> bool {
        (self.entity_ids.is_empty() || self.entity_ids.iter().any(|id| id == entity_id)) && self.passes(entity_id)
    }

    fn passes(&self, entity_id: &str) -> bool {
        let (include, exclude) = (&self.include, &self.exclude);
        let listed = include.find(entity_id);
        let banned = exclude.find(entity_id);
        match (include.is_empty(), exclude.is_empty()) {
            (true, true) => true,
            (false, true) => listed.itself || listed.by_domain || listed.by_glob,
            (true, false) => !(banned.itself || banned.by_domain || banned.by_glob),
            (false, false) if include.is_broad() => {
                listed.itself || (!banned.itself && (listed.by_glob || (listed.by_domain && !banned.by_glob)))
            }
            (false, false) if exclude.is_broad() => {
                if banned.by_domain || banned.by_glob {
                    listed.itself
                } else {
                    !banned.itself
                }
            }
            (false, false) => listed.itself,
        }
    }
}

/// How a list names an entity.
struct Found {
    itself: bool,
    by_domain: bool,
    by_glob: bool,
}

impl Lists {
    fn is_empty(&self) -> bool {
        self.entities.is_empty() && !self.is_broad()
    }

    fn is_broad(&self) -> bool {
        !self.domains.is_empty() || !self.entity_globs.is_empty()
    }

    fn find(&self, entity_id: &str) -> Found {
        let domain = entity_id.split('.').next().unwrap_or_default();
        Found {
            itself: self.entities.iter().any(|id| id == entity_id),
            by_domain: self.domains.iter().any(|listed| listed == domain),
            by_glob: self.entity_globs.iter().any(|glob| matches(glob.as_bytes(), entity_id.as_bytes())),
        }
    }
}

fn matches(glob: &[u8], text: &[u8]) -> bool {
    match (glob.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            matches(rest, text) || text.split_first().is_some_and(|(_, text)| matches(glob, text))
        }
        (Some((b'?', rest)), Some((_, text))) => matches(rest, text),
        (Some((wanted, rest)), Some((found, text))) => wanted == found && matches(rest, text),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::Scope;

    fn check(scope: &str, covered: &[&str], left_out: &[&str]) {
        let parsed: Scope = serde_json::from_str(scope).unwrap();
        for id in covered {
            assert!(parsed.covers(id), "{scope} leaves {id} out");
        }
        for id in left_out {
            assert!(!parsed.covers(id), "{scope} covers {id}");
        }
    }

    #[test]
    fn the_precedence_is_home_assistants() {
        check("{}", &["a.b"], &[]);
        check(r#"{"entity_ids":["a.b"]}"#, &["a.b"], &["a.c"]);
        check(r#"{"include":{"domains":["a"],"entity_globs":["*.x?"]}}"#, &["a.b", "b.x1"], &["b.x", "c.b"]);
        check(r#"{"exclude":{"domains":["a"],"entities":["b.c"]}}"#, &["b.d"], &["a.b", "b.c"]);
        // A domain that is included and excluded is included.
        check(
            r#"{"include":{"domains":["a"]},"exclude":{"domains":["a"],"entity_globs":["a.no*"],"entities":["a.e"]}}"#,
            &["a.b"],
            &["a.not", "a.e", "b.c"],
        );
        check(
            r#"{"include":{"entities":["a.b"]},"exclude":{"domains":["a"],"entities":["c.d"]}}"#,
            &["a.b", "b.c"],
            &["a.c", "c.d"],
        );
        check(r#"{"include":{"entities":["a.b"]},"exclude":{"entities":["c.d"]}}"#, &["a.b"], &["b.c", "c.d"]);
    }
}
