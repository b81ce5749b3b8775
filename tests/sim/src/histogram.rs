//! Counts of whole numbers, and what is asked of them: mean, percentiles, largest.

use serde::Serialize;

/// Numbers up to this are kept exactly; larger ones count as it.
const LARGEST: usize = 120_000;

/// Counts of numbers from 0 to 120,000: milliseconds, hops, depths.
#[derive(Debug, Default, Clone)]
pub struct Histogram {
    counts: Vec<u32>,
    total: u64,
    sum: u64,
}

/// What a report says of a [`Histogram`]; zeros when nothing was counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// How many numbers.
    pub count: u64,
    /// Their mean, to a hundredth.
    pub mean: f64,
    /// Half of them are not above it.
    pub p50: u64,
    /// Ninety-nine of a hundred are not above it.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

impl Histogram {
    /// Counts one number.
    pub fn add(&mut self, number: u64) {
        let index = usize::try_from(number).unwrap_or(LARGEST).min(LARGEST);
        if self.counts.len() <= index {
            self.counts.resize(index + 1, 0);
        }
        self.counts[index] += 1;
        self.total += 1;
        self.sum += index as u64;
    }

    /// Counts everything that another one has.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
        self.sum += other.sum;
    }

    /// How many numbers.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.total
    }

    /// How many of them are at most `limit`.
    #[must_use]
    pub fn up_to(&self, limit: u64) -> u64 {
        let end = usize::try_from(limit).unwrap_or(LARGEST).min(LARGEST) + 1;
        self.counts.iter().take(end).map(|c| u64::from(*c)).sum()
    }

    /// The smallest number that so many of a thousand are not above; 0 when empty.
    #[must_use]
    pub fn permille(&self, permille: u64) -> u64 {
        let wanted = (self.total * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (number, count) in (0..).zip(&self.counts) {
            seen += u64::from(*count);
            if seen >= wanted {
                return number;
            }
        }
        0
    }

    /// The few figures of a report.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let mean = ratio(self.sum * 100, self.total);
        Summary {
            count: self.total,
            mean: mean.round() / 100.0,
            p50: self.permille(500),
            p99: self.permille(990),
            max: self.counts.len().saturating_sub(1) as u64,
        }
    }

    /// Every number that was counted, ascending, with its count.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u32)> + '_ {
        let counted = (0..).zip(self.counts.iter().copied());
        counted.filter(|(_, count)| *count > 0)
    }
}

/// A share as a fraction; 0 of nothing.
#[must_use]
pub fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        // Counts of a simulation stay far below 2^52.
        #[expect(clippy::cast_precision_loss, reason = "for people to read")]
        let share = part as f64 / whole as f64;
        share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_those_of_a_sorted_list() {
        let mut histogram = Histogram::default();
        for number in (1..=100).rev() {
            histogram.add(number);
        }

        let expected = Summary {
            count: 100,
            mean: 50.5,
            p50: 50,
            p99: 99,
            max: 100,
        };
        assert_eq!(histogram.summary(), expected);
        assert_eq!(histogram.up_to(10), 10);
    }

    #[test]
    fn nothing_counted_gives_zeros_and_one_number_gives_itself() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.summary(), Summary::default());

        histogram.add(7);
        assert_eq!(histogram.summary().p50, 7);
        assert_eq!(histogram.summary().p99, 7);
    }

    #[test]
    fn merged_histograms_count_what_both_counted() {
        let (mut a, mut b) = (Histogram::default(), Histogram::default());
        a.add(3);
        b.add(9);
        a.merge(&b);

        assert_eq!(a.iter().collect::<Vec<_>>(), [(3, 1), (9, 1)]);
        assert_eq!(a.summary().max, 9);
    }
}
