//! How many records of a page are asked for: all that the vendor gives, or a half of it, and so on,
//! where the CRM does not manage so many at once. Kept per organisation as long as the process, so
//! that a run which goes on, and the next one, begin with what works.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A full page halved so often has one record, whatever page it is (Salesforce's has 2,000).
const HALVINGS_MAX: u32 = 11;
/// Pages in a row that must come before a larger one is tried ..
const GROW_AFTER: u32 = 8;
/// .. and at most so many, where larger ones have failed again and again: each try may cost a
/// minute and a half.
const GROW_AFTER_MAX: u32 = 512;

/// The size of pages.
#[derive(Debug, Default)]
pub struct PageSize(Mutex<PageSizing>);

#[derive(Debug, Default)]
struct PageSizing {
    halvings: u32,
    /// Pages since it last changed.
    pages: u32,
    /// So many until it grows; 0: as at first.
    grow_after: u32,
    /// The last change was a growth.
    has_grown: bool,
}

impl PageSize {
    /// Of a full page's records, so many; at least one.
    pub fn of(&self, full: usize) -> usize {
        (full >> self.sizing().halvings).max(1)
    }

    /// The CRM did not manage a page of this size: half as many from now on; false: it was one
    /// record already.
    pub fn shrink(&self) -> bool {
        let mut sizing = self.sizing();
        if sizing.halvings >= HALVINGS_MAX {
            return false;
        }
        let grow_after = sizing.grow_after.max(GROW_AFTER);
        let has_grown_too_early = sizing.has_grown && sizing.pages == 0;
        let grow_after = if has_grown_too_early { (grow_after * 2).min(GROW_AFTER_MAX) } else { grow_after };
        *sizing = PageSizing { halvings: sizing.halvings + 1, grow_after, ..PageSizing::default() };
        true
    }

    /// A page has come: after some of them, twice as many records are asked for.
    pub fn grow(&self) {
        let mut sizing = self.sizing();
        if sizing.halvings == 0 {
            return;
        }
        sizing.pages += 1;
        if sizing.pages >= sizing.grow_after {
            (sizing.halvings, sizing.pages, sizing.has_grown) = (sizing.halvings - 1, 0, true);
        }
    }

    fn sizing(&self) -> MutexGuard<'_, PageSizing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_halved_down_to_one_record() {
        let size = PageSize::default();
        let mut sizes = vec![size.of(1_000)];

        while size.shrink() {
            sizes.push(size.of(1_000));
        }

        assert_eq!(sizes[..5], [1_000, 500, 250, 125, 62]);
        assert_eq!((size.of(1_000), size.of(2_000), size.of(10_000)), (1, 1, 4));
    }

    /// Pages grow again slowly, and ever more slowly where that fails.
    #[test]
    fn pages_grow_ever_more_slowly_after_failures() {
        let size = PageSize::default();
        let (mut pages, mut failures) = (0, 0);

        for _ in 0..1_000 {
            if size.of(1_000) > 300 {
                size.shrink();
                failures += 1;
            } else {
                size.grow();
                pages += 1;
            }
        }

        assert!(failures <= 10, "{failures} of {pages}");
    }

    /// A CRM that has recovered gets full pages again.
    #[test]
    fn recovered_crm_gets_full_pages_again() {
        let size = PageSize::default();
        while size.shrink() {}

        for _ in 0..GROW_AFTER * HALVINGS_MAX {
            size.grow();
        }

        assert_eq!(size.of(1_000), 1_000);
    }
}
