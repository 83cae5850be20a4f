//! Two ways to write one line that give two keys, in the three plans where both ways are alive, and
//! old numbers that renumbered plans have left in records.
//!
//! Invariant: a variant is never another subscriber's number as the plan stands. Where both forms
//! may be somebody's, there is no variant: a miss costs a question, a false name costs trust.

use crate::PhoneKey;
use crate::country_split::CountrySplit;
use crate::library::NumberCandidate;
use crate::renumbered;

const ARGENTINA: u16 = 54;
const BRAZIL: u16 = 55;
const ITALY: u16 = 39;

/// Another key that is the same line in practice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NumberVariant {
    /// Never the key that was asked for.
    pub key: PhoneKey,
    /// Why it is the same line.
    pub rule: VariantRule,
}

/// Why two keys are one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VariantRule {
    /// Calls from abroad to an Argentine mobile need a 9 behind 54, and carriers and messengers
    /// drop it.
    ArgentinaMobileNine,
    /// Brazil put a 9 before each mobile number from 2012 to 2016; the form of eight digits is
    /// still stored.
    BrazilNinthDigit,
    /// The country has changed its plan, and records still hold the old number: Gabon, Kosovo,
    /// Vietnam's areas.
    Renumbered,
    /// The 0 of an Italian area code is dialled from abroad too, and is dropped by those who do not
    /// know.
    ItalyLeadingZero,
}

impl VariantRule {
    /// The rule's name on the wire and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ArgentinaMobileNine => "argentina_mobile_9",
            Self::BrazilNinthDigit => "brazil_ninth_digit",
            Self::Renumbered => "renumbered",
            Self::ItalyLeadingZero => "italy_leading_zero",
        }
    }
}

/// Other keys that are the same line in practice, at most three, none equal to `key`. Variants of a
/// variant lead back: the relation has pairs and no chains.
pub fn variants(key: PhoneKey) -> impl Iterator<Item = NumberVariant> {
    variant(key).into_iter()
}

/// No plan has more than one rule.
fn variant(key: PhoneKey) -> Option<NumberVariant> {
    let parts = CountrySplit::of(key)?;
    let (national, rule) = match parts.code() {
        ARGENTINA => (argentina(parts.national())?, VariantRule::ArgentinaMobileNine),
        BRAZIL => (brazil(parts.national())?, VariantRule::BrazilNinthDigit),
        ITALY => (italy(&parts)?, VariantRule::ItalyLeadingZero),
        code => {
            let twin = renumbered::twin(code, parts.national())?;
            let key = format!("{}{}", twin.code, twin.national).parse().ok().and_then(PhoneKey::new)?;
            return Some(NumberVariant { key, rule: VariantRule::Renumbered });
        }
    };
    Some(NumberVariant { key: parts.with_national(&national)?, rule })
}

/// 9 and ten digits, or the ten digits. Mobile numbers are those of an area (11, 2…, 3…); 800, 600
/// and 900 are not.
fn argentina(national: &str) -> Option<String> {
    let is_of_an_area =
        |number: &str| number.len() == 10 && ["11", "2", "3"].iter().any(|area| number.starts_with(area));
    if is_of_an_area(national) {
        return Some(format!("9{national}"));
    }
    national.strip_prefix('9').filter(|number| is_of_an_area(number)).map(str::to_owned)
}

/// Two digits of the area and a subscriber's eight that begin with 6 to 9, or a 9 before these
/// eight. Area codes have no 0, so 800 and 300 numbers are not touched; subscribers of fixed lines
/// begin with 2 to 5.
fn brazil(national: &str) -> Option<String> {
    let (area, subscriber) = national.split_at_checked(2)?;
    if area.contains('0') {
        return None;
    }
    let is_old_mobile = |number: &str| number.len() == 8 && number.starts_with(['6', '7', '8', '9']);
    if is_old_mobile(subscriber) {
        return Some(format!("{area}9{subscriber}"));
    }
    subscriber.strip_prefix('9').filter(|number| is_old_mobile(number)).map(|number| format!("{area}{number}"))
}

/// With one zero in front, or without it. The form without it must be nobody's number: 055 12345678
/// is Florence and 55 12345678 a line over the internet, 0331 234567 is near Varese and 331 234567
/// an old mobile.
fn italy(parts: &CountrySplit) -> Option<String> {
    // Mobile numbers begin with 3, more of them each year; none of them gains or comes from a zero.
    const MOBILE: char = '3';
    let national = parts.national();
    let (bare, other) = match national.strip_prefix('0') {
        Some(bare) => (bare, bare.to_owned()),
        None => (national, format!("0{national}")),
    };
    if bare.starts_with(['0', MOBILE]) {
        return None;
    }
    let is_nobodys = !NumberCandidate::of(parts.with_national(bare)?)?.is_valid();
    (is_nobodys && NumberCandidate::of(parts.with_national(&other)?).is_some()).then_some(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digits: i64) -> PhoneKey {
        PhoneKey::try_from_i64(digits).unwrap()
    }

    fn variants_of(digits: i64) -> Vec<(i64, &'static str)> {
        variants(key(digits)).map(|variant| (variant.key.as_i64(), variant.rule.as_str())).collect()
    }

    /// Two forms of one line are variants of each other.
    #[test]
    fn two_forms_of_line_are_mutual_variants() {
        for (one, other, rule) in [
            (5_491_123_456_789, 541_123_456_789, "argentina_mobile_9"),
            (5_493_516_123_456, 543_516_123_456, "argentina_mobile_9"),
            (5_511_981_234_567, 551_181_234_567, "brazil_ninth_digit"),
            (24_107_123_456, 24_177_123_456, "renumbered"),
            (38_138_123_456, 38_338_123_456, "renumbered"),
            (37_744_123_456, 38_344_123_456, "renumbered"),
            (84_438_251_234, 842_438_251_234, "renumbered"),
            (390_612_345_678, 39_612_345_678, "italy_leading_zero"),
            (390_236_123_456, 39_236_123_456, "italy_leading_zero"),
        ] {
            assert_eq!(variants_of(one), [(other, rule)]);
            assert_eq!(variants_of(other), [(one, rule)]);
        }
    }

    /// Numbers that may be two subscribers have no variant.
    #[test]
    fn possibly_distinct_subscribers_have_no_variant() {
        for digits in [
            // Argentina: free numbers, too short, too long.
            548_001_234_567,
            5_498_001_234_567,
            54_112_345_678,
            // Brazil: a fixed line, a mobile whose old form is a fixed line, a free number.
            551_131_234_567,
            5_511_931_234_567,
            558_001_234_567,
            // Italy: mobiles, an area that looks like one, free, over the internet, Florence that
            // looks so.
            393_312_345_678,
            39_331_234_567,
            390_331_234_567,
            390_301_234_567,
            39_800_123_456,
            395_512_345_678,
            3_905_512_345_678,
            // Everybody else.
            13_108_675_309,
            442_079_460_018,
            4_930_123_456,
            // What no reading gives.
            1,
            39,
            999_999,
        ] {
            assert_eq!(variants_of(digits), [], "{digits}");
        }
    }
}
