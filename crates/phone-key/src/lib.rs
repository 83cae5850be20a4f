//! Reading phone numbers: from what a person typed or a carrier sent to the key by which contacts
//! are found.
//!
//! Pure and total: the same text and region always give the same reading, and no text panics.
//! Stored CRM numbers and callers are read by the same function, so both sides of a match agree by
//! construction. A reading is never a guess: text that is not surely a number gives no key, because
//! a false key names a stranger. Must not log or print a number; `Debug` of everything that holds
//! one is redacted.
//!
//! Read in this order: [`PhoneKey`] and [`Reading`]; `parsed_field` (a text's way), and downwards
//! from there: `field` (several numbers), `one_number`, `remarks`, `plain` (the library or a second
//! reading), `library`. `canonical` and `national` are short ways.

mod calling_codes;
mod canonical;
mod country;
mod country_split;
mod derivations;
mod envelope;
mod explain;
mod extension;
mod field;
mod key;
mod library;
mod local_numbers;
mod main_lines;
mod national;
mod one_number;
mod parsed_field;
mod plain;
mod reading;
mod region;
mod remarks;
mod renumbered;
mod second_reading;
mod split;
mod text;
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

pub use country::read_near;
pub use explain::{NumberingPlan, OtherReading, ReadingExplanation, ReadingStep, explain};
pub use key::{InvalidPhoneKey, PhoneKey};
pub use library::{ReadRefusal, is_assigned};
pub use local_numbers::{assumed_probes, assumed_region, is_suffix, local_digits, suffix_probes};
pub use main_lines::{OrgPrefix, is_switchboard, org_prefixes};
pub use parsed_field::read;
pub use reading::{ReadNumber, ReadNumbers, Reading};
pub use region::{Region, UnknownRegion};
pub use variants::{NumberVariant, VariantRule, variants};

/// The version of these rules and of the library's metadata. It grows whenever some text may give
/// another key than before; accounts whose numbers were read by an older one are then read again. A
/// row's own is the one by which it was written.
pub const KEY_VERSION: i16 = 4;

/// The longest text that is read, in bytes. Longer text is [`Reading::Unparseable`]: no real number
/// needs it, and the library's time grows with the length.
pub const RAW_LENGTH_MAX: usize = 250;

/// Compiles the patterns of every country, about 0.1 s and 11 MB once per process. Without it the
/// first caller of a country waits about a millisecond longer.
pub fn warm_up() {
    canonical::warm_up();
    national::warm_up();
    library::warm_up();
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
