//! What is paid for gas (EIP-1559).

use serde::{Deserialize, Serialize};

/// Fees of a transaction, wei for a unit of gas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fees {
    /// At most, all in all.
    pub(super) max: u128,
    /// Of it for who makes the block.
    pub(super) priority: u128,
}

impl Fees {
    /// Enough for six full blocks in a row, each of which raises the base fee by an
    /// eighth, but never above the limit. `None` when the limit does not even cover the
    /// base fee.
    pub(super) fn new(base: u128, priority: u128, limit: u128) -> Option<Self> {
        let max = base.saturating_mul(2).saturating_add(priority).min(limit);
        (max >= base).then_some(Self {
            max,
            priority: priority.min(max),
        })
    }

    /// What replaces a transaction that waits: nodes ask for a tenth more of both, this is
    /// an eighth and at least what is asked at present. `None` when the limit forbids it.
    pub(super) fn raised(self, now: Option<Self>, limit: u128) -> Option<Self> {
        let more = |fee: u128| {
            fee.saturating_add(fee.div_ceil(8))
                .max(fee.saturating_add(1))
        };
        let now = now.unwrap_or(self);
        let raised = Self {
            max: more(self.max).max(now.max),
            priority: more(self.priority).max(now.priority),
        };
        (raised.max <= limit && raised.priority <= raised.max).then_some(raised)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fees_leave_room_for_a_rising_base_and_stay_under_the_limit() {
        assert_eq!(
            Fees::new(100, 2, 1000),
            Some(Fees {
                max: 202,
                priority: 2
            })
        );
        assert_eq!(
            Fees::new(100, 2, 150),
            Some(Fees {
                max: 150,
                priority: 2
            })
        );
        assert_eq!(Fees::new(100, 200, 150).unwrap().priority, 150);
        assert_eq!(Fees::new(100, 2, 99), None);
        assert_eq!(Fees::new(u128::MAX, 2, u128::MAX).unwrap().max, u128::MAX);
    }

    #[test]
    fn a_raise_is_an_eighth_at_least_and_as_much_as_is_asked() {
        let fees = Fees {
            max: 80,
            priority: 0,
        };
        assert_eq!(
            fees.raised(None, 1000),
            Some(Fees {
                max: 90,
                priority: 1
            })
        );
        let asked = Fees {
            max: 500,
            priority: 7,
        };
        assert_eq!(fees.raised(Some(asked), 1000), Some(asked));
        assert_eq!(fees.raised(Some(asked), 499), None);
        let most = Fees {
            max: u128::MAX,
            priority: 1,
        };
        assert_eq!(most.raised(None, u128::MAX).unwrap().max, u128::MAX);
    }
}
