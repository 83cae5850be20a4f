//! Whether events are lost in silence: what polls bring is compared with what events announced.
//! Pure; who counts what is `sync::push_losses`' matter.

/// Changes that are counted before anything is made of them.
const SURE_FROM: i64 = 20;
/// Of them so many percent may be missed: some changes of a CRM fire no event.
const MISSED_MAX_PERCENT: i64 = 5;
/// Counts that reach this are halved, so that what is long over counts for little.
const HALVED_AT: i64 = 200;

/// Changes of late, by how they came.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PushLosses {
    /// After an event.
    pub announced: i64,
    /// By a poll alone, though an event should have come.
    pub missed: i64,
}

impl PushLosses {
    /// With so many that only a poll brought.
    #[must_use]
    pub const fn with_missed(self, missed: i64) -> Self {
        let mut sum = Self { missed: self.missed.saturating_add(missed), ..self };
        while sum.announced.saturating_add(sum.missed) >= HALVED_AT {
            sum = Self { announced: sum.announced / 2, missed: sum.missed / 2 };
        }
        sum
    }

    /// Whether so many are missed that the hook cannot be trusted.
    pub const fn are_suspicious(self) -> bool {
        let all = self.announced + self.missed;
        all >= SURE_FROM && self.missed * 100 > all * MISSED_MAX_PERCENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_percent_of_twenty_is_suspicious_and_less_is_not() {
        for (announced, missed, is_suspicious) in [
            (0, 0, false),
            (0, 19, false),
            (0, 20, true),
            (19, 1, false),
            (18, 2, true),
            (95, 5, false),
            (95, 6, true),
            (199, 0, false),
        ] {
            assert_eq!(PushLosses { announced, missed }.are_suspicious(), is_suspicious, "{announced} {missed}");
        }
    }

    /// A hook that falls silent after long health is noticed within a dozen changes.
    #[test]
    fn counts_are_halved() {
        let healthy = PushLosses { announced: 1_000_000, missed: 0 }.with_missed(0);
        assert!((100..200).contains(&healthy.announced), "{healthy:?}");

        let silent = (0..12).fold(healthy, |losses, _| losses.with_missed(1));
        assert!(silent.are_suspicious(), "{silent:?}");
        let many = PushLosses::default().with_missed(i64::MAX);
        assert!(many.missed < HALVED_AT && many.are_suspicious());
    }
}
