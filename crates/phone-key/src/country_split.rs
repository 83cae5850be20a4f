//! A key taken apart: country code and national number, for the tiers that look beyond equal keys.
//!
//! Invariant: both parts put together are the digits of the key. A key whose first digits are no
//! country code, which no reading gives, has no parts.

use crate::{PhoneKey, canonical};

/// The digits of a key, split behind the country code.
pub(crate) struct CountrySplit {
    digits: String,
    code_digits: usize,
}

impl CountrySplit {
    pub(crate) fn of(key: PhoneKey) -> Option<Self> {
        let digits = key.as_i64().to_string();
        let front: usize = digits.get(..3)?.parse().ok()?;
        let code_digits = canonical::code_digits(front)?;
        (digits.len() > code_digits).then_some(Self { digits, code_digits })
    }

    /// The country code, 1 to 999.
    pub(crate) fn code(&self) -> u16 {
        self.digits[..self.code_digits].parse().expect("a country code is one to three digits by construction")
    }

    /// The national significant number, with the leading zeros that belong to it (Italy).
    pub(crate) fn national(&self) -> &str {
        &self.digits[self.code_digits..]
    }

    /// The key of another number of the same country.
    pub(crate) fn with_national(&self, national: &str) -> Option<PhoneKey> {
        format!("{}{national}", &self.digits[..self.code_digits]).parse().ok().and_then(PhoneKey::new)
    }
}
