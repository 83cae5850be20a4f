//! Why a text has the key that it has, or none: for the person who typed it or asks for whom it was
//! typed.
//!
//! Invariant: the text goes the very way of [`super::read`], and what is said is what happened
//! there. Steps repeat no digits but a country code and an extension; they belong on a screen and
//! never into a log.

use std::fmt;

use crate::derivations::Derivation;
use crate::library::{self, NumberCandidate, ReadRefusal, RefusedText};
use crate::parsed_field::ParsedField;
use crate::split::NumberCandidates;
use crate::{Reading, Region, canonical, envelope, parsed_field, second_reading, split, text};

/// A reading with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadingExplanation {
    /// What [`super::read`] says of the same text.
    pub reading: Reading,
    /// In the order in which they happened; never empty.
    pub steps: Vec<ReadingStep>,
}

/// What was done with a text. Prints as words that need no manual.
#[derive(Clone, PartialEq, Eq)]
pub enum ReadingStep {
    /// Plus sign, country code, number.
    International,
    /// The user part of `sip:user@host`.
    OutOfSipAddress,
    /// What stood in `<…>`.
    OutOfAngleBrackets,
    /// A word such as "anonymous".
    WithheldWord,
    /// A word typed on a keypad, such as +266696687.
    WithheldSentinel,
    /// The field holds this many numbers; the steps behind it are those of each in turn.
    SeveralNumbers(usize),
    /// "020 7946 0018/19".
    FirstOfList,
    /// Written as people write at home in the region.
    National(Region),
    /// A call abroad, as dialled from the region.
    Abroad(Region),
    /// A call abroad, as dialled from elsewhere.
    ForeignDiallingPrefix,
    /// In international form, but for the plus sign.
    LostPlus {
        /// The country code, 1 to 999.
        country_code: i32,
    },
    /// It could be read as a national number too, but worse.
    NotNational,
    /// A national number of the region behind a plus sign.
    StrayPlus(Region),
    /// The 9 or 8 before a call out of an office.
    OutsideLine,
    /// What stood before the last plus sign is no part of the number.
    LatePlus,
    /// Separators or invisible characters that no plan knows.
    OddSigns,
    /// The ".0" of a spreadsheet.
    Fraction,
    /// A remark or a bracket behind the number.
    Remark,
    /// 800-FLOWERS.
    Letters,
    /// 1, 044 or 045 before a Mexican mobile.
    MexicanPrefix,
    /// The country's plan has changed, and the number with it.
    Renumbered,
    /// An extension, with its digits.
    Extension(String),
    /// The text had another reading, which was the worse one.
    InsteadOf(OtherReading),
    /// The number is possible, but the plan gives it to nobody. It still is a key.
    NotAssigned,
    /// Why there is no key, and whose plan says so.
    NoKey(ReadRefusal, Option<NumberingPlan>),
}

/// How else a text could have been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherReading {
    /// As a national number of the region, which its plan assigns or does not.
    National {
        /// Where it was written.
        region: Region,
        /// The plan gives it to somebody.
        is_assigned: bool,
    },
    /// As a number of this country code, 1 to 999, that lacks its plus sign.
    LostPlus {
        /// The country code.
        country_code: i32,
    },
}

/// A numbering plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberingPlan {
    /// That of the region in which the number was written.
    Region(Region),
    /// That of a country code, 1 to 999.
    CountryCode(u16),
}

/// Reads a text as [`super::read`] does and says why it reads so. Costs more than `read`: it asks
/// whether a number is assigned.
pub fn explain(raw: &str, region: Option<Region>) -> ReadingExplanation {
    let mut steps = Vec::with_capacity(4);
    if let Some(key) = canonical::read(raw.as_bytes()) {
        steps.push(ReadingStep::International);
        if !library::is_assigned(key) {
            steps.push(ReadingStep::NotAssigned);
        }
        return ReadingExplanation { reading: Reading::of(key), steps };
    }
    let parsed = parsed_field::parse(raw, region);
    match &parsed {
        ParsedField::TooLong => steps.push(ReadingStep::NoKey(ReadRefusal::TextTooLong, None)),
        ParsedField::Withheld(text) => {
            steps.extend(unwrapped(raw, text));
            let is_sentinel = text.contains(|c: char| c.is_ascii_digit());
            steps.push(if is_sentinel { ReadingStep::WithheldSentinel } else { ReadingStep::WithheldWord });
        }
        ParsedField::Field(text, Some(candidates)) => {
            steps.extend(unwrapped(raw, text));
            add_numbers(&mut steps, text, candidates, region);
        }
        ParsedField::Field(text, None) => {
            steps.extend(unwrapped(raw, text));
            let refused = refused(text, region);
            steps.push(ReadingStep::NoKey(refused.why, plan(text, refused, region)));
        }
    }
    ReadingExplanation { reading: parsed.into(), steps }
}

fn unwrapped(raw: &str, text: &str) -> Option<ReadingStep> {
    if raw.trim_matches(envelope::is_blank) == text {
        None
    } else if raw.contains(['@', ':']) {
        Some(ReadingStep::OutOfSipAddress)
    } else {
        Some(ReadingStep::OutOfAngleBrackets)
    }
}

fn add_numbers(steps: &mut Vec<ReadingStep>, text: &str, candidates: &NumberCandidates, region: Option<Region>) {
    let parts = if candidates.others.is_empty() { None } else { split::find(text, region) };
    if !candidates.others.is_empty() {
        steps.push(ReadingStep::SeveralNumbers(1 + candidates.others.len()));
    }
    for (at, candidate) in candidates.iter().enumerate() {
        let text = parts.as_ref().and_then(|parts| parts.get(at)).map_or(text, |(part, _)| part);
        steps.push(origin(text, candidate, region));
        let derivations = candidate.derivations();
        let derived = [
            (Derivation::NotNational, ReadingStep::NotNational),
            (Derivation::OutsideLine, ReadingStep::OutsideLine),
            (Derivation::FirstOfList, ReadingStep::FirstOfList),
            (Derivation::OddSigns, ReadingStep::OddSigns),
            (Derivation::Fraction, ReadingStep::Fraction),
            (Derivation::Remark, ReadingStep::Remark),
            (Derivation::MexicanPrefix, ReadingStep::MexicanPrefix),
            (Derivation::Renumbered, ReadingStep::Renumbered),
        ];
        steps.extend(derived.into_iter().filter(|(derivation, _)| derivations.has(*derivation)).map(|(_, step)| step));
        steps.extend(other_reading(text, candidate, region).map(ReadingStep::InsteadOf));
        if !derivations.has(Derivation::Remark) && candidate.is_spelled_in(text) {
            steps.push(ReadingStep::Letters);
        }
        steps.extend(candidate.extension().map(|digits| ReadingStep::Extension(digits.to_owned())));
        if !candidate.is_valid() {
            steps.push(ReadingStep::NotAssigned);
        }
    }
}

/// What the text could have been read as, too, where that was looked at.
fn other_reading(text: &str, candidate: &NumberCandidate, region: Option<Region>) -> Option<OtherReading> {
    let (derivations, number, region) = (candidate.derivations(), text::from_first_digit(text)?, region?);
    let is_another = |other: &NumberCandidate| other.key() != candidate.key();
    // What stands behind a stray plus sign is told by its own step.
    if text::has_plus(number) {
        return None;
    }
    let is_foreign = [Derivation::LostPlus, Derivation::ForeignDiallingPrefix, Derivation::OutsideLine]
        .iter()
        .any(|derivation| derivations.has(*derivation));
    if is_foreign && !derivations.has(Derivation::NotNational) {
        let other =
            NumberCandidate::read(number, Some(region)).filter(|other| other.is_of(region) && is_another(other));
        if let Some(other) = other {
            return Some(OtherReading::National { region, is_assigned: other.is_valid() });
        }
    }
    let is_cut = [Derivation::FirstOfList, Derivation::Remark, Derivation::Fraction, Derivation::LatePlus]
        .iter()
        .any(|derivation| derivations.has(*derivation));
    let other = second_reading::after_lost_plus(number).filter(|other| !is_cut && is_another(other))?;
    Some(OtherReading::LostPlus { country_code: other.country_code() })
}

/// By which rules the digits became a number of a country.
fn origin(text: &str, candidate: &NumberCandidate, region: Option<Region>) -> ReadingStep {
    let derivations = candidate.derivations();
    if derivations.has(Derivation::ForeignDiallingPrefix) {
        return ReadingStep::ForeignDiallingPrefix;
    }
    if derivations.has(Derivation::LostPlus) {
        return ReadingStep::LostPlus { country_code: candidate.country_code() };
    }
    if derivations.has(Derivation::LatePlus) {
        return ReadingStep::LatePlus;
    }
    if let Some(region) = region
        && derivations.has(Derivation::StrayPlus)
    {
        return ReadingStep::StrayPlus(region);
    }
    match region {
        Some(region) if candidate.is_of(region) && !text::has_plus(text) => ReadingStep::National(region),
        Some(region) if !text::has_plus(text) => ReadingStep::Abroad(region),
        _ => ReadingStep::International,
    }
}

fn refused(text: &str, region: Option<Region>) -> RefusedText {
    let because = |why| RefusedText { why, country_code: None };
    let Some(number) = text::from_first_digit(text).filter(|number| text::count_digits(number) > 0) else {
        return because(ReadRefusal::NoDigits);
    };
    if text::has_date_or_address(text) {
        return because(ReadRefusal::DateOrAddress);
    }
    if text::is_keyboard_filler(number) {
        return because(ReadRefusal::Filler);
    }
    NumberCandidate::try_read(text, region).err().unwrap_or(because(ReadRefusal::Doubtful))
}

fn plan(text: &str, refused: RefusedText, region: Option<Region>) -> Option<NumberingPlan> {
    use ReadRefusal::{ImpossibleLength, LocalOnly, TooLong, TooShort};
    if !matches!(refused.why, LocalOnly | TooShort | TooLong | ImpossibleLength) {
        return None;
    }
    let at_home =
        region.filter(|&region| !text::has_plus(text) && library::country_code(region) == refused.country_code);
    at_home.map(NumberingPlan::Region).or(refused.country_code.map(NumberingPlan::CountryCode))
}

impl fmt::Display for ReadingStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::International => "written with plus sign and country code",
            Self::OutOfSipAddress => "taken out of the SIP address",
            Self::OutOfAngleBrackets => "taken out of the angle brackets",
            Self::WithheldWord => "a withheld caller's word",
            Self::WithheldSentinel => "a withheld caller's keypad digits",
            Self::SeveralNumbers(count) => return write!(f, "{count} numbers in one field"),
            Self::FirstOfList => "only the first number: of the others the last digits are written",
            Self::National(region) => return write!(f, "read as a national number of {region}"),
            Self::Abroad(region) => return write!(f, "read as a call abroad, dialled from {region}"),
            Self::ForeignDiallingPrefix => "another country's prefix for calls abroad",
            Self::LostPlus { country_code } => return write!(f, "country code {country_code} without its plus sign"),
            Self::NotNational => {
                "not a national number: the plan does not assign it, or it lacks the 0 that is dialled there"
            }
            Self::StrayPlus(region) => {
                return write!(f, "read as a national number of {region}, although a plus sign stands before it");
            }
            Self::OutsideLine => "the digit for an outside line left out",
            Self::LatePlus => "only what follows the last plus sign",
            Self::OddSigns => "unusual signs between the digits ignored",
            Self::Fraction => "a spreadsheet's .0 dropped",
            Self::Remark => "the remark behind the number left out",
            Self::Letters => "letters read as on a keypad",
            Self::MexicanPrefix => "Mexico's old mobile prefix removed",
            Self::Renumbered => "an old number, as it is since the country's plan has changed",
            Self::Extension(digits) => return write!(f, "extension {digits} kept aside"),
            Self::InsteadOf(other) => return other.fmt(f),
            Self::NotAssigned => "possible but not assigned",
            Self::NoKey(refusal, None) => return refusal.fmt(f),
            Self::NoKey(refusal, Some(plan)) => return write_refusal(f, *refusal, *plan),
        };
        f.write_str(text)
    }
}

impl fmt::Display for OtherReading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::National { region, is_assigned: true } => write!(f, "chosen over a national number of {region}"),
            Self::National { region, is_assigned: false } => {
                write!(f, "chosen over a national number of {region}, which the plan does not assign")
            }
            Self::LostPlus { country_code } => {
                write!(f, "chosen over a number of country code {country_code} without its plus sign")
            }
        }
    }
}

fn write_refusal(f: &mut fmt::Formatter<'_>, refusal: ReadRefusal, plan: NumberingPlan) -> fmt::Result {
    match refusal {
        ReadRefusal::LocalOnly => write!(f, "too short for {plan}, local only: could be anybody's"),
        ReadRefusal::TooShort => write!(f, "too short for {plan}"),
        ReadRefusal::TooLong => write!(f, "too long for {plan}"),
        ReadRefusal::ImpossibleLength => write!(f, "no number of {plan} has as many digits"),
        other => fmt::Display::fmt(&other, f),
    }
}

/// In few words and without the plan, to count by.
impl fmt::Display for ReadRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TextTooLong => "longer than 250 bytes",
            Self::NoDigits => "no digits",
            Self::DateOrAddress => "a date or an IP address",
            Self::Filler => "a filler",
            Self::Sentinel => "a withheld caller's keypad digits",
            Self::NoCountry => "no country code and no region",
            Self::UnknownCountryCode => "unknown country code",
            Self::LocalOnly => "local only",
            Self::TooShort => "too short",
            Self::TooLong => "too long",
            Self::ImpossibleLength => "a length that no number has",
            Self::NotANumber => "not written as a number",
            Self::Doubtful => "not surely a number",
        })
    }
}

impl fmt::Display for NumberingPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(region) => region.fmt(f),
            Self::CountryCode(code) => write!(f, "+{code}"),
        }
    }
}

impl fmt::Debug for ReadingStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Extension(_) => f.write_str("Extension(redacted)"),
            step => write!(f, "{step}"),
        }
    }
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;
