//! Ids as Salesforce makes them: 15 case-sensitive letters and digits, of which the first three
//! name the object, and three more that make the id safe where case gets lost. Owns: reading both
//! forms, the suffix, the order of ids.

use std::fmt;

use serde::{Serialize, Serializer};

/// Length of the case-sensitive form.
const SHORT: usize = 15;
/// Length of the form that the API answers with.
const LONG: usize = 18;
/// What stands between the object's prefix and the number, as a real instance has its own.
const POD: &[u8; 3] = b"5g0";

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const SUFFIX: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";

/// An id, kept in its short form. Ordered as Salesforce orders them: by the characters' codes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RecordId([u8; SHORT]);

impl RecordId {
    /// Below and above every id.
    pub(super) const MIN: Self = Self([b'0'; SHORT]);
    pub(super) const MAX: Self = Self([b'z'; SHORT]);

    /// The id number `number` of an object.
    pub(super) fn numbered(prefix: &str, mut number: u64) -> Self {
        let mut characters = [b'0'; SHORT];
        characters[..3].copy_from_slice(&prefix.as_bytes()[..3]);
        characters[3..6].copy_from_slice(POD);
        for place in characters[6..].iter_mut().rev() {
            *place = DIGITS[usize::try_from(number % 62).expect("below 62")];
            number /= 62;
        }
        Self(characters)
    }

    /// Reads either form; the suffix of the long one must be right.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if !bytes.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let id = Self(bytes.get(..SHORT)?.try_into().ok()?);
        let is_right = match bytes.len() {
            SHORT => true,
            LONG => id.suffix().iter().zip(&bytes[SHORT..]).all(|(right, given)| right.eq_ignore_ascii_case(given)),
            _ => false,
        };
        is_right.then_some(id)
    }

    /// The three characters that name the object.
    pub(super) fn prefix(&self) -> &str {
        std::str::from_utf8(&self.0[..3]).unwrap_or_default()
    }

    /// The number of an id that [`RecordId::numbered`] made, so that further ones do not meet it.
    pub(super) fn number(&self) -> Option<u64> {
        if &self.0[3..6] != POD {
            return None;
        }
        let value = |byte: &u8| DIGITS.iter().position(|digit| digit == byte).and_then(|at| u64::try_from(at).ok());
        self.0[6..].iter().try_fold(0_u64, |number, byte| Some(number * 62 + value(byte)?))
    }

    /// Each character tells of five others which are capitals.
    fn suffix(&self) -> [u8; 3] {
        let mut suffix = [0; 3];
        for (place, five) in suffix.iter_mut().zip(self.0.chunks(5)) {
            let capitals = five
                .iter()
                .enumerate()
                .fold(0, |bits, (at, byte)| if byte.is_ascii_uppercase() { bits | 1 << at } else { bits });
            *place = SUFFIX[capitals];
        }
        suffix
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0.iter().chain(&self.suffix()) {
            write!(formatter, "{}", char::from(*byte))?;
        }
        Ok(())
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for RecordId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffix_is_the_vendors() {
        // From Salesforce's own examples.
        for long in ["003D000000QV9n2IAD", "001D000000IRFmaIAH", "005x00000012Q9PAAU"] {
            let id = RecordId::parse(&long[..15]).unwrap();

            assert_eq!(id.to_string(), long);
            assert_eq!(RecordId::parse(long), Some(id));
        }
    }

    /// The case of an id matters, and one with a wrong suffix is no id.
    #[test]
    fn case_matters_and_wrong_suffix_is_no_id() {
        assert_ne!(RecordId::parse("003D000000QV9n2"), RecordId::parse("003D000000QV9N2"));
        for text in ["", "003", "003D000000QV9n2IAE", "003D000000QV9n2I", "003D00000_QV9n2", "003D000000QV9é"] {
            assert_eq!(RecordId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_in_the_order_of_the_ids() {
        let ids: Vec<RecordId> = [0, 1, 61, 62, 1_000_000].map(|number| RecordId::numbered("003", number)).to_vec();

        assert!(ids.is_sorted());
        assert_eq!(ids[4].number(), Some(1_000_000));
        assert_eq!(ids[0].to_string().len(), 18);
        assert_eq!(RecordId::parse("003D000000QV9n2").unwrap().number(), None);
    }
}
