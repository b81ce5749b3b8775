//! When an endpoint that failed is asked again. No clock here: whoever asks says when.

use std::time::Duration;

/// The first rest after a failure.
const FIRST: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST: Duration = Duration::from_mins(1);
/// An endpoint that fails this part of its requests is no first choice, in 256ths.
const DEGRADED: u32 = 64;

/// How an endpoint has behaved.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    /// In a row.
    failures: u32,
    /// Rests until then, on the caller's clock.
    rests_until: Option<Duration>,
    /// Part of the last requests that failed, in 256ths.
    rate: u32,
    requests: u64,
    errors: u64,
    last_error: Option<String>,
}

/// How good a choice an endpoint is; the least is the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    Good,
    Degraded,
    /// Rests; asked only when all others fail.
    Resting(Duration),
}

impl Health {
    /// It answered as it should.
    pub(super) fn answered(&mut self) {
        self.requests += 1;
        self.failures = 0;
        self.rests_until = None;
        self.rate -= self.rate.div_ceil(16);
    }

    /// It did not. `jitter` is drawn evenly from all values.
    pub(super) fn failed(&mut self, now: Duration, reason: String, jitter: u8) {
        self.requests += 1;
        self.errors += 1;
        self.rate += (256 - self.rate) / 16;
        let doubled = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        // Three quarters to five quarters of it.
        let rest = doubled * (384 + u32::from(jitter)) / 512;
        self.failures = self.failures.saturating_add(1);
        self.rests_until = Some(now + rest);
        self.last_error = Some(reason);
    }

    pub(super) fn rank(&self, now: Duration) -> Rank {
        match self.rests_until {
            Some(until) if until > now => Rank::Resting(until),
            _ if self.rate > DEGRADED => Rank::Degraded,
            _ => Rank::Good,
        }
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    pub(super) fn counts(&self) -> (u64, u64) {
        (self.requests, self.errors)
    }

    pub(super) fn last_error(&self) -> Option<&str> {
        self.last_error.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn rests_grow_with_failures_and_end_with_an_answer() {
        let mut health = Health::default();
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            health.failed(at(100), "x".into(), 128);
            let Rank::Resting(until) = health.rank(at(100)) else {
                panic!("it rests")
            };
            assert!(until - at(100) >= last && until - at(100) <= LONGEST);
            last = until - at(100);
        }
        assert_eq!(last, LONGEST);

        health.answered();

        assert_ne!(health.rank(at(100)), Rank::Resting(at(160)));
        assert_eq!((health.counts(), health.failures()), ((13, 12), 0));
    }

    #[test]
    fn one_that_fails_every_other_time_is_degraded_until_it_is_not() {
        let mut health = Health::default();
        for _ in 0..40 {
            health.failed(at(0), "x".into(), 0);
            health.answered();
        }
        assert_eq!(health.rank(at(0)), Rank::Degraded);
        for _ in 0..40 {
            health.answered();
        }
        assert_eq!(health.rank(at(0)), Rank::Good);
    }

    proptest! {
        #[test]
        fn any_course_leaves_sound_numbers(course in prop::collection::vec(any::<(bool, u8)>(), 0..400)) {
            let mut health = Health::default();
            for (good, jitter) in course {
                if good { health.answered() } else { health.failed(at(5), String::new(), jitter) }
                prop_assert!(health.rate <= 256);
                if let Rank::Resting(until) = health.rank(at(5)) {
                    prop_assert!(until <= at(5) + LONGEST * 5 / 4);
                }
            }
        }
    }
}
