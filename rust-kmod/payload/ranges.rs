// SPDX-License-Identifier: GPL-2.0

//! Search of words, such as those of a task's stack, in a sorted set of address ranges.

/// Addresses from `start` up to, but not including, `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(C)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Address behind the last one.
    pub end: u64,
}

/// A sorted set of ranges in memory of the caller's.
///
/// # Invariants
///
/// No range is empty, and each starts at or behind the end of the one in front of it. `low` is the
/// first address of all and `span` the distance from it to the end of the last range.
#[derive(Clone, Copy, Debug)]
pub struct Ranges<'a> {
    ranges: &'a [Range],
    low: u64,
    span: u64,
}

impl<'a> Ranges<'a> {
    /// Takes ranges that are sorted, not empty and do not overlap, else returns `None`.
    pub fn new(ranges: &'a [Range]) -> Option<Self> {
        let mut end = 0;
        for range in ranges {
            if range.start < end || range.end <= range.start {
                return None;
            }
            end = range.end;
        }
        let low = ranges.first().map_or(0, |range| range.start);
        // INVARIANT: the loop above has just checked it; without ranges, `span` is 0.
        Some(Self {
            ranges,
            low,
            span: end.wrapping_sub(low),
        })
    }

    /// Number of the range that holds `word`.
    #[inline]
    pub fn find(&self, word: u64) -> Option<usize> {
        // One comparison settles nearly every word of a stack.
        if word.wrapping_sub(self.low) >= self.span {
            return None;
        }
        let behind = self.ranges.partition_point(|range| range.start <= word);
        let index = behind.checked_sub(1)?;
        (word < self.ranges.get(index)?.end).then_some(index)
    }

    /// The first word that is in one of the ranges, and that range's number.
    #[inline]
    pub fn scan(&self, words: impl IntoIterator<Item = u64>) -> Option<(u64, usize)> {
        words
            .into_iter()
            .find_map(|word| self.find(word).map(|index| (word, index)))
    }

    /// The ranges.
    pub fn as_slice(&self) -> &'a [Range] {
        self.ranges
    }
}
