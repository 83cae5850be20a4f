//! The key by which numbers are compared.

use std::{fmt, num::NonZeroU64};

use crate::country_split::CountrySplit;
use crate::library;

/// All digits of a number in E.164 form, country code first, as an integer. No country code begins
/// with 0, so two numbers are equal exactly when their keys are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhoneKey(NonZeroU64);

impl PhoneKey {
    /// The largest key, that of a Postgres `bigint`. E.164 ends at 15 digits, but numbers of up to
    /// 19 are possible in the plans of Germany, Indonesia, Japan, Korea, Nigeria and Uruguay.
    pub const MAX: i64 = i64::MAX;

    /// The key that was stored as this integer.
    pub fn try_from_i64(value: i64) -> Result<Self, InvalidPhoneKey> {
        u64::try_from(value).ok().and_then(Self::new).ok_or(InvalidPhoneKey)
    }

    /// The integer to store, 1 to [`Self::MAX`].
    pub fn as_i64(self) -> i64 {
        i64::try_from(self.0.get()).expect("a key is at most PhoneKey::MAX by construction")
    }

    /// The number as it is shown and dialled: `+` and all digits.
    pub fn e164(self) -> String {
        format!("+{}", self.0)
    }

    /// The digits without the country code, for a search in somebody else's data.
    pub fn national_digits(self) -> String {
        CountrySplit::of(self).map_or_else(|| self.0.to_string(), |split| split.national().to_owned())
    }

    /// The digits as its country writes them at home, with what is dialled before them there (0 in
    /// many); where nothing is, or the key is no possible number, those of
    /// [`Self::national_digits`].
    pub fn home_digits(self) -> String {
        library::national_format(self).unwrap_or_else(|| self.national_digits())
    }

    pub(crate) fn is(self, digits: u64) -> bool {
        self.0.get() == digits
    }

    pub(crate) fn new(digits: u64) -> Option<Self> {
        if i64::try_from(digits).is_err() {
            return None;
        }
        NonZeroU64::new(digits).map(Self)
    }
}

impl fmt::Debug for PhoneKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PhoneKey(redacted)")
    }
}

/// The integer cannot be a phone key. It is not repeated here: it may be a person's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("phone key must be a positive integer, all digits of an E.164 number")]
pub struct InvalidPhoneKey;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_digits_have_what_is_dialled_before_them() {
        let home = |digits: i64| PhoneKey::try_from_i64(digits).unwrap().home_digits();

        assert_eq!(home(442_079_460_000), "02079460000");
        assert_eq!(home(13_105_550_100), "3105550100");
        assert_eq!(home(390_612_345_678), "0612345678", "its zero is there already");
        assert_eq!(home(7), "7");
    }

    #[test]
    fn national_digits_stand_behind_the_country_code() {
        let national = |digits: i64| PhoneKey::try_from_i64(digits).unwrap().national_digits();

        assert_eq!(national(13_105_550_100), "3105550100");
        assert_eq!(national(442_079_460_000), "2079460000");
        assert_eq!(national(390_612_345_678), "0612345678", "a zero that belongs to the number");
        assert_eq!(national(3_725_551_234), "5551234");
        assert_eq!(national(7), "7");
    }
}
