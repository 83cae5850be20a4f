//! Reading phone numbers: from what a person typed or a carrier sent to the key by which contacts are found.
//!
//! Pure and total: the same text and region always give the same reading, and no text panics. Stored CRM numbers
//! and callers are read by the same function, so both sides of a match agree by construction.
//! A reading is never a guess: text that is not surely a number gives no key, because a false key names a stranger.
//! Must not log or print a number; `Debug` of everything that holds one is redacted.

mod calling_codes;
mod canonical;
mod country;
mod explain;
mod extension;
mod field;
mod library;
mod local_numbers;
mod main_lines;
mod marks;
mod national;
mod notes;
mod parts;
mod renumbered;
mod reread;
mod split;
mod text;
mod unwrap;
mod variants;
mod withheld;

#[cfg(test)]
mod corpus_tests;
#[cfg(test)]
mod document_tests;
#[cfg(test)]
mod pair_tests;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use field::Candidates;

pub use country::read_near;
pub use explain::{Explanation, OtherReading, Plan, Step, explain};
pub use library::{Refusal, is_assigned};
pub use local_numbers::{assumed_probes, assumed_region, is_suffix, local_digits, suffix_probes};
pub use main_lines::{OrgPrefix, is_switchboard, org_prefixes};
pub use variants::{Variant, VariantRule, variants};

/// The version of these rules and of the library's metadata. It grows whenever some text may give another key than before;
/// accounts whose numbers were read by an older one are then read again. A row's own is the one by which it was written.
pub const KEY_VERSION: i16 = 4;

/// The longest text that is read, in bytes. Longer text is [`Reading::Unparseable`]: no real number needs it, and the
/// library's time grows with the length.
pub const RAW_LENGTH_MAX: usize = 250;

/// Reads the text of one phone field or one caller id.
///
/// `region` is the country in which a number without a country code was written; without one, only numbers in
/// international form have a meaning. Text beyond [`RAW_LENGTH_MAX`] bytes is `Unparseable`.
pub fn read(raw: &str, region: Option<Region>) -> Reading {
    match canonical::read(raw.as_bytes()).or_else(|| national::read(raw, region)) {
        Some(key) => Reading::of(key),
        None => look_at(raw, region).into(),
    }
}

/// What [`read`] makes of a text that is not in plain international form, with what [`explain`] needs to say why.
enum Look<'a> {
    TooLong,
    /// What was unwrapped stands for a hidden number.
    Withheld(Cow<'a, str>),
    /// What was unwrapped, and the numbers in it.
    Field(Cow<'a, str>, Option<Candidates>),
}

fn look_at(raw: &str, region: Option<Region>) -> Look<'_> {
    if raw.len() > RAW_LENGTH_MAX {
        return Look::TooLong;
    }
    let text = unwrap::unwrap(raw);
    if withheld::is_withheld(&text) {
        return Look::Withheld(text);
    }
    let numbers = field::read(&text, region);
    Look::Field(text, numbers)
}

impl From<Look<'_>> for Reading {
    fn from(look: Look<'_>) -> Self {
        match look {
            Look::Field(_, Some(candidates)) => Self::Numbers(candidates.into()),
            Look::Withheld(_) => Self::Withheld,
            Look::TooLong | Look::Field(_, None) => Self::Unparseable,
        }
    }
}

/// Compiles the patterns of every country, about 0.1 s and 11 MB once per process. Without it the first caller of a
/// country waits about a millisecond longer.
pub fn warm_up() {
    canonical::warm_up();
    national::warm_up();
    library::warm_up();
}

/// What a text says about a caller or a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reading {
    /// One number; several if the field holds several.
    Numbers(Numbers),
    /// The caller hides the number: "anonymous", "private", a keypad sentinel such as +266696687. Never a key.
    Withheld,
    /// No number that could be called from elsewhere: short codes, local numbers without area code, fillers, words.
    Unparseable,
}

impl Reading {
    /// The numbers read, in the order written; none if withheld or unparseable.
    pub fn numbers(&self) -> impl Iterator<Item = &ReadNumber> {
        match self {
            Self::Numbers(numbers) => Some(numbers.iter()),
            Self::Withheld | Self::Unparseable => None,
        }
        .into_iter()
        .flatten()
    }

    fn of(key: PhoneKey) -> Self {
        Self::Numbers(Numbers::one(ReadNumber { key, extension: None }))
    }

    /// The first number, which is the only one in nearly every field.
    pub fn first(&self) -> Option<&ReadNumber> {
        match self {
            Self::Numbers(numbers) => Some(&numbers.first),
            Self::Withheld | Self::Unparseable => None,
        }
    }
}

/// At least one and at most eight numbers. One needs no heap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    first: ReadNumber,
    others: Vec<ReadNumber>,
}

impl Numbers {
    fn one(first: ReadNumber) -> Self {
        Self { first, others: Vec::new() }
    }

    /// In the order written. A number written twice is there once.
    pub fn iter(&self) -> impl Iterator<Item = &ReadNumber> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The number written first.
    pub fn first(&self) -> &ReadNumber {
        &self.first
    }

    fn add(&mut self, number: ReadNumber) {
        if self.iter().all(|known| known.key != number.key) {
            self.others.push(number);
        }
    }
}

impl From<Candidates> for Numbers {
    fn from(candidates: Candidates) -> Self {
        let mut numbers = Self::one(candidates.first.into_number());
        candidates.others.into_iter().for_each(|other| numbers.add(other.into_number()));
        numbers
    }
}

impl IntoIterator for Numbers {
    type Item = ReadNumber;
    type IntoIter = std::iter::Chain<std::iter::Once<ReadNumber>, std::vec::IntoIter<ReadNumber>>;

    fn into_iter(self) -> Self::IntoIter {
        std::iter::once(self.first).chain(self.others)
    }
}

/// One number of a field.
#[derive(Clone, PartialEq, Eq)]
pub struct ReadNumber {
    /// What is compared.
    pub key: PhoneKey,
    /// The digits to dial after the call is answered, as written (any script's digits, at most 20). Caller ids never
    /// carry it, so it is a label and never part of the key.
    pub extension: Option<String>,
}

impl fmt::Debug for ReadNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadNumber").field("key", &self.key).field("has_extension", &self.extension.is_some()).finish()
    }
}

/// All digits of a number in E.164 form, country code first, as an integer. No country code begins with 0, so two
/// numbers are equal exactly when their keys are.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhoneKey(NonZeroU64);

impl PhoneKey {
    /// The largest key, that of a Postgres `bigint`. E.164 ends at 15 digits, but numbers of up to 19 are possible in
    /// the plans of Germany, Indonesia, Japan, Korea, Nigeria and Uruguay.
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

    fn is(self, digits: u64) -> bool {
        self.0.get() == digits
    }

    fn new(digits: u64) -> Option<Self> {
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

/// A country or territory by its ISO 3166-1 alpha-2 code, of those whose numbering plan is known (245 of them, also AC,
/// TA and XK).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region([u8; 2]);

impl Region {
    /// Every [`Self::index`] is smaller.
    const INDEX_END: usize = 26 * 26;

    /// A place in a table of all pairs of letters.
    fn index(self) -> usize {
        let [first, second] = self.0.map(|letter| usize::from(letter - b'A'));
        first * 26 + second
    }

    /// Two ASCII letters in either case.
    pub fn parse(code: &str) -> Result<Self, UnknownRegion> {
        let &[first, second] = code.as_bytes() else {
            return Err(UnknownRegion);
        };
        let region = Self([first.to_ascii_uppercase(), second.to_ascii_uppercase()]);
        if region.0.iter().all(u8::is_ascii_uppercase) && library::is_known(region) {
            Ok(region)
        } else {
            Err(UnknownRegion)
        }
    }

    /// Two upper-case letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a region is two ASCII letters by construction")
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({self})")
    }
}

impl std::str::FromStr for Region {
    type Err = UnknownRegion;

    fn from_str(code: &str) -> Result<Self, UnknownRegion> {
        Self::parse(code)
    }
}

impl TryFrom<String> for Region {
    type Error = UnknownRegion;

    fn try_from(code: String) -> Result<Self, UnknownRegion> {
        Self::parse(&code)
    }
}

impl From<Region> for String {
    fn from(region: Region) -> Self {
        region.as_str().to_owned()
    }
}

/// The text names no region with a known numbering plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("region is unknown, an ISO 3166-1 alpha-2 code such as US or DE would be right")]
pub struct UnknownRegion;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
