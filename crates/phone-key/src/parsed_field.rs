//! The way of a text to its reading.

use std::borrow::Cow;

use crate::split::NumberCandidates;
use crate::{RAW_LENGTH_MAX, Reading, Region, canonical, envelope, field, national, withheld};

/// Reads the text of one phone field or one caller id.
///
/// `region` is the country in which a number without a country code was written; without one, only
/// numbers in international form have a meaning. Text beyond [`RAW_LENGTH_MAX`] bytes is
/// `Unparseable`.
pub fn read(raw: &str, region: Option<Region>) -> Reading {
    match canonical::read(raw.as_bytes()).or_else(|| national::read(raw, region)) {
        Some(key) => Reading::of(key),
        None => parse(raw, region).into(),
    }
}

/// What [`read`] makes of a text that is not in plain international form, with what [`explain`]
/// needs to say why.
pub(crate) enum ParsedField<'a> {
    TooLong,
    /// What was unwrapped stands for a hidden number.
    Withheld(Cow<'a, str>),
    /// What was unwrapped, and the numbers in it.
    Field(Cow<'a, str>, Option<NumberCandidates>),
}

pub(crate) fn parse(raw: &str, region: Option<Region>) -> ParsedField<'_> {
    if raw.len() > RAW_LENGTH_MAX {
        return ParsedField::TooLong;
    }
    let text = envelope::open(raw);
    if withheld::is_withheld(&text) {
        return ParsedField::Withheld(text);
    }
    let numbers = field::read(&text, region);
    ParsedField::Field(text, numbers)
}

impl From<ParsedField<'_>> for Reading {
    fn from(parsed: ParsedField<'_>) -> Self {
        match parsed {
            ParsedField::Field(_, Some(candidates)) => Self::Numbers(candidates.into()),
            ParsedField::Withheld(_) => Self::Withheld,
            ParsedField::TooLong | ParsedField::Field(_, None) => Self::Unparseable,
        }
    }
}
