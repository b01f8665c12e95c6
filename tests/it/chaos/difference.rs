//! What a database has, against what the recorder has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// An entity and a time, in the unit of the database.
pub type Places = BTreeSet<(String, i64)>;

/// A time that differs by less than this is the same change with a wrong time.
const NEAR: i64 = 2;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Difference {
    pub rows: usize,
    pub missing: Vec<(String, i64)>,
    pub extra: Vec<(String, i64)>,
    /// In the recorder, and in the database.
    pub differing: Vec<(String, i64, i64)>,
    /// In the database, and made as the ledger says, but the recorder was killed before it wrote them.
    pub never_recorded: usize,
}

impl Difference {
    /// `needed` must be there; `allowed` may be there beside them (with the same meaning as a row of the recorder), `made` is
    /// known from the ledger.
    pub fn of(needed: &Places, allowed: &Places, made: &Places, found: &Places) -> Self {
        let mut difference = Self { rows: needed.len(), ..Self::default() };
        let mut extra: BTreeMap<&str, BTreeSet<i64>> = BTreeMap::new();
        for place in found {
            if needed.contains(place) || allowed.contains(place) {
                continue;
            }
            if made.contains(place) {
                difference.never_recorded += 1;
            } else {
                extra.entry(&place.0).or_default().insert(place.1);
            }
        }
        for (entity, time) in needed.difference(found) {
            let others = extra.entry(entity).or_default();
            let near = others.range(time - NEAR..=time + NEAR).next().copied();
            match near {
                Some(other) => {
                    others.remove(&other);
                    difference.differing.push((entity.clone(), *time, other));
                }
                None => difference.missing.push((entity.clone(), *time)),
            }
        }
        let left =
            extra.into_iter().flat_map(|(entity, times)| times.into_iter().map(|time| (entity.to_owned(), time)));
        difference.extra = left.collect();
        difference
    }

    pub fn is_none(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.differing.is_empty()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, missing, extra, differing, never_recorded } = self;
        let (missing_count, extra_count, differing_count) = (missing.len(), extra.len(), differing.len());
        write!(
            f,
            "{rows} rows, missing {missing_count}, extra {extra_count}, differing timestamps {differing_count} \
             (besides {never_recorded} that the recorder lost)"
        )?;
        if !self.is_none() {
            let ends = |of: &[(String, i64)]| {
                let time = |place: &&(String, i64)| place.1;
                (of.iter().min_by_key(time).cloned(), of.iter().max_by_key(time).cloned())
            };
            let ((first_missing, last_missing), (first_extra, last_extra)) = (ends(missing), ends(extra));
            write!(f, "; first missing {first_missing:?}, last missing {last_missing:?}")?;
            write!(f, ", first extra {first_extra:?}, last extra {last_extra:?}")?;
            write!(f, ", first differing {:?}", differing.first())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Difference, Places};

    #[test]
    fn each_kind_of_difference_is_told_apart() {
        let places = |times: &[i64]| -> Places { times.iter().map(|time| ("a.b".to_owned(), *time)).collect() };
        let found =
            Difference::of(&places(&[10, 20, 30]), &places(&[15]), &places(&[17]), &places(&[10, 15, 17, 21, 40]));
        let of = |time: i64| ("a.b".to_owned(), time);
        assert_eq!((found.missing, found.extra), (vec![of(30)], vec![of(40)]));
        assert_eq!((found.differing, found.never_recorded), (vec![("a.b".to_owned(), 20, 21)], 1));
    }
}
