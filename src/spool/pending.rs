//! Which records a reader still lacks.
//!
//! Sorted ranges of ids with gaps between them. The last one is open: it holds all ids that are still to come.

use std::ops::Range;

/// The end of the last range.
const OPEN: u64 = u64::MAX;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    /// Never empty; none touches the next.
    ranges: Vec<Range<u64>>,
}

impl Pending {
    /// All from this id on.
    pub(super) fn from(id: u64) -> Self {
        Self { ranges: vec![Range { start: id, end: OPEN }] }
    }

    /// These ranges, in any order, and everything from `next_id` on.
    pub(super) fn of(ranges: impl IntoIterator<Item = Range<u64>>, next_id: u64) -> Self {
        let mut sorted: Vec<Range<u64>> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        sorted.push(Range { start: next_id, end: OPEN });
        sorted.sort_by_key(|range| range.start);
        let mut ranges: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
        for range in sorted {
            match ranges.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => ranges.push(range),
            }
        }
        Self { ranges }
    }

    /// The first one that is lacked, at `id` or after it. It may be an id that is still to come.
    pub(super) fn first_from(&self, id: u64) -> u64 {
        self.within(id..OPEN).next().map_or(OPEN, |range| range.start)
    }

    /// Those among `ids`, in order.
    pub(super) fn within(&self, ids: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        let from = self.ranges.partition_point(|range| range.end <= ids.start);
        self.ranges[from..]
            .iter()
            .map(move |range| range.start.max(ids.start)..range.end.min(ids.end))
            .take_while(|range| !range.is_empty())
    }

    pub(super) fn count(&self, ids: Range<u64>) -> u64 {
        self.within(ids).map(|range| range.end - range.start).sum()
    }

    /// The reader lacks these no longer. Returns those among them that it lacked. `ids` have been given to records.
    pub(super) fn remove(&mut self, ids: Range<u64>) -> Vec<Range<u64>> {
        debug_assert!(ids.end < OPEN, "ids to come stay");
        let removed: Vec<Range<u64>> = self.within(ids.clone()).collect();
        let (Some(first), Some(last)) = (removed.first(), removed.last()) else { return removed };
        let from = self.ranges.partition_point(|range| range.end <= first.start);
        let to = self.ranges.partition_point(|range| range.start < last.end);
        let rest = [self.ranges[from].start..first.start, last.end..self.ranges[to - 1].end];
        self.ranges.splice(from..to, rest.into_iter().filter(|range| !range.is_empty()));
        removed
    }

    /// Sorted; the end of the last is `u64::MAX`.
    #[cfg(test)]
    pub(super) fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection, prop_assert, prop_assert_eq, proptest};

    use super::{OPEN, Pending};

    fn check(start: u64, gone: &[(u64, u64)], left: &[(u64, u64)]) {
        let mut pending = Pending::from(start);
        for (from, to) in gone {
            let _ = pending.remove(*from..*to);
        }
        assert_eq!(shown(&pending), left, "{start} without {gone:?}");
    }

    fn shown(pending: &Pending) -> Vec<(u64, u64)> {
        pending.ranges().iter().map(|range| (range.start, range.end)).collect()
    }

    #[test]
    fn what_is_taken_out_of_the_middle_leaves_both_sides() {
        check(5, &[], &[(5, OPEN)]);
        check(5, &[(0, 5)], &[(5, OPEN)]);
        check(5, &[(5, 9)], &[(9, OPEN)]);
        check(0, &[(4, 6), (8, 9)], &[(0, 4), (6, 8), (9, OPEN)]);
        check(0, &[(4, 6), (8, 9), (2, 9)], &[(0, 2), (9, OPEN)]);
        check(0, &[(4, 6), (8, 9), (5, 20)], &[(0, 4), (20, OPEN)]);
        check(0, &[(4, 6), (0, 4)], &[(6, OPEN)]);
        check(0, &[(3, 3)], &[(0, OPEN)]);
    }

    #[test]
    fn ranges_that_touch_become_one() {
        assert_eq!(shown(&Pending::of([7..9, 0..4, 4..5, 2..3, 6..6], 9)), [(0, 5), (7, OPEN)]);
        assert_eq!(shown(&Pending::of([], 3)), [(3, OPEN)]);
    }

    proptest! {
        #[test]
        fn it_is_a_set_of_ids(operations in collection::vec((0..60_u64, 0..20_u64), 0..30)) {
            let mut pending = Pending::from(3);
            let mut model: BTreeSet<u64> = (3..100).collect();
            for (start, length) in operations {
                let ids = start..start + length;
                let removed: Vec<u64> = pending.remove(ids.clone()).into_iter().flatten().collect();
                let expected: Vec<u64> = model.range(ids.clone()).copied().collect();
                prop_assert_eq!(removed, expected);
                model.retain(|id| !ids.contains(id));
                prop_assert_eq!(pending.count(0..100), model.len() as u64);
                prop_assert_eq!(pending.count(20..40), model.range(20..40).count() as u64);
                prop_assert_eq!(pending.first_from(17), *model.range(17..).next().unwrap());
                prop_assert!((0..100).all(|id| pending.count(id..id + 1) == u64::from(model.contains(&id))));
                prop_assert!(pending.ranges().windows(2).all(|pair| pair[0].end < pair[1].start));
            }
        }
    }
}
