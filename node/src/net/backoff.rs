//! When to try again what has failed.

use std::time::Duration;

use tokio::time::Instant;

/// Pauses that double from a first to a longest one, each up to a quarter longer by
/// chance, so that nodes which lost the same neighbour do not come back all at once.
#[derive(Debug, Clone)]
pub(super) struct BackOff {
    first: Duration,
    longest: Duration,
    last: Duration,
    until: Option<Instant>,
}

impl BackOff {
    pub(super) const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            last: Duration::ZERO,
            until: None,
        }
    }

    /// Nothing forbids to try now.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    /// It failed; `chance` is any number.
    pub(super) fn fail(&mut self, now: Instant, chance: u32) {
        self.last = (self.last * 2).clamp(self.first, self.longest);
        let jitter = self.last / 4 * (chance % 1024) / 1024;
        self.until = Some(now + self.last + jitter);
    }

    /// It failed so long ago that it need not be remembered.
    pub(super) fn is_forgotten(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until + self.longest <= now)
    }
}

/// A random number; when the system has none, zero does as well for a pause.
pub(super) fn chance() -> u32 {
    getrandom::u32().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut back_off = BackOff::new(Duration::from_secs(1), Duration::from_secs(5));
        let now = Instant::now();
        assert!(back_off.is_over(now));
        for pause in [1, 2, 4, 5, 5] {
            back_off.fail(now, 0);
            let until = now + Duration::from_secs(pause);
            assert!(!back_off.is_over(until - Duration::from_millis(1)));
            assert!(back_off.is_over(until));
        }
    }

    #[test]
    fn chance_makes_a_pause_at_most_a_quarter_longer() {
        let second = Duration::from_secs(1);
        for chance in [0, 511, 1023, 1024, u32::MAX] {
            let mut back_off = BackOff::new(second, second);
            let now = Instant::now();
            back_off.fail(now, chance);
            assert!(!back_off.is_over(now + second - Duration::from_millis(1)));
            assert!(back_off.is_over(now + second * 5 / 4));
        }
    }
}
