//! The short way for numbers in international form: `+` and 8 to 15 digits, with or without blanks,
//! dashes, full stops and brackets. What a carrier sends and most CRMs store takes it, without the
//! library and without the heap.
//!
//! Invariant: it either gives exactly the key that the library gives, or nothing, and then the
//! library decides.

use std::sync::LazyLock;

use crate::calling_codes::{BEHIND_A_ONE, PREFIX_DIGITS};
use crate::{PhoneKey, library, renumbered, withheld};

const DIGITS_MAX: usize = 15;
/// Longer text is left to the library: fifteen digits, a sign before each and a few more, bytes.
const TEXT_MAX: usize = 32;

/// What is known of numbers that begin with three given digits. The default is a plan of which
/// nothing is known.
#[derive(Clone, Copy, Default)]
struct CodePlan {
    code: u16,
    /// Digits of the country code, 1 to 3.
    code_digits: u8,
    /// Bit n: a national number of n digits is possible.
    lengths: u32,
    /// Bit n: some national numbers of n digits have changed since.
    old_lengths: u32,
    /// Bit d: a national number that begins with d may lose a prefix ..
    prefix_digits: u16,
    /// .. and, if d is 1, only if bit e is set for its second digit e.
    behind_a_one: u16,
}

static PLANS: LazyLock<Box<[CodePlan; 1000]>> = LazyLock::new(build_plans);

/// Builds the table, about a millisecond.
pub(crate) fn warm_up() {
    LazyLock::force(&PLANS);
}

/// The key of a number in plain international form, where it is certain.
pub(crate) fn read(raw: &[u8]) -> Option<PhoneKey> {
    let (&b'+', text) = raw.split_first()? else {
        return None;
    };
    if let Some(value) = value_of(text) {
        return key_of(value, text);
    }
    if text.len() > TEXT_MAX || has_doubtful_end(text) {
        return None;
    }
    // Where the signs stand is different in every country, so nothing here branches on it.
    let mut digits = [0_u8; TEXT_MAX];
    let mut count = 0;
    let mut kinds = 0;
    for &byte in text {
        let kind = KINDS[usize::from(byte)];
        digits[count] = byte;
        count += usize::from(kind == DIGIT);
        kinds |= kind;
    }
    let digits = &digits[..count];
    if kinds & OTHER != 0 { None } else { key_of(value_of(digits)?, digits) }
}

/// Whether the text ends in what may be no part of the number: the ".0" or ".00" of a spreadsheet,
/// a remark in brackets.
pub(crate) fn has_doubtful_end(text: &[u8]) -> bool {
    let text = text.trim_ascii_end();
    let zeros = text.iter().rev().take_while(|&&byte| byte == b'0').count();
    text.ends_with(b")") || zeros > 0 && text[..text.len() - zeros].ends_with(b".")
}

const DIGIT: u8 = 1;
const SIGN: u8 = 2;
const OTHER: u8 = 4;

/// What each byte is.
const KINDS: [u8; 256] = {
    let mut kinds = [OTHER; 256];
    let mut byte: u8 = 0;
    while byte < u8::MAX {
        kinds[byte as usize] = match byte {
            b'0'..=b'9' => DIGIT,
            b' ' | b'-' | b'.' | b'(' | b')' => SIGN,
            _ => OTHER,
        };
        byte += 1;
    }
    kinds
};

/// The key of 8 to 15 ASCII digits with this value.
fn key_of(value: u64, digits: &[u8]) -> Option<PhoneKey> {
    let digit = |at: usize| usize::from(digits[at] - b'0');
    let plan = PLANS[digit(0) * 100 + digit(1) * 10 + digit(2)];
    let code_digits = usize::from(plan.code_digits);
    let national_count = digits.len() - code_digits;
    if plan.lengths & !plan.old_lengths & (1 << national_count) == 0 {
        return None;
    }
    let first = digits[code_digits] - b'0';
    let second = digits[code_digits + 1] - b'0';
    let national = value - u64::from(plan.code) * POWERS[national_count];
    let may_be_prefixed =
        plan.prefix_digits & (1 << first) != 0 && (first != 1 || plan.behind_a_one & (1 << second) != 0);
    if may_be_prefixed || national == u64::from(first) * REPUNITS[national_count] {
        return None;
    }
    PhoneKey::new(value).filter(|key| !withheld::is_sentinel(*key))
}

/// The value of 8 to 15 ASCII digits, eight at a time; nothing for any other text.
fn value_of(text: &[u8]) -> Option<u64> {
    if text.len() > DIGITS_MAX {
        return None;
    }
    let front = eight_digits(*text.first_chunk()?)?;
    let back = eight_digits(*text.last_chunk()?)?;
    // The first bytes of `back` are digits of `front` already; the lowest byte is the first.
    let more = text.len() - EIGHT;
    let back = back & (u64::MAX << 8 << (8 * (EIGHT - 1 - more)));
    Some(decimal(front) * POWERS[more] + decimal(back))
}

const EIGHT: usize = 8;

/// Eight ASCII digits as the bytes 0 to 9, the first in the lowest.
fn eight_digits(text: [u8; EIGHT]) -> Option<u64> {
    const ZEROS: u64 = 0x3030_3030_3030_3030;
    const HIGH: u64 = 0xf0f0_f0f0_f0f0_f0f0;
    // Six above 9 is the next sixteen, so both keep a high half of 3 for 0 to 9 only.
    const SIX: u64 = 0x0606_0606_0606_0606;
    let bytes = u64::from_le_bytes(text);
    let are_digits = bytes & HIGH == ZEROS && bytes.wrapping_add(SIX) & HIGH == ZEROS;
    are_digits.then_some(bytes ^ ZEROS)
}

/// The number that eight bytes of one digit each are: neighbours become pairs, pairs fours, fours
/// the whole.
fn decimal(digits: u64) -> u64 {
    let pairs = (digits.wrapping_mul(10) + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    (fours.wrapping_mul(10_000) + (fours >> 32)) & 0xffff_ffff
}

/// Whether ASCII digits have a country code and a length that is possible behind it.
pub(crate) fn is_possible(digits: &[u8]) -> bool {
    let Some(&[first, second, third]) = digits.first_chunk() else { return false };
    let front = [first, second, third].into_iter().fold(0, |front, digit| front * 10 + usize::from(digit - b'0'));
    let plan = PLANS[front];
    plan.code_digits > 0 && plan.lengths & (1 << (digits.len() - usize::from(plan.code_digits))) != 0
}

/// How many digits the country code has with which a number of these first three digits begins.
pub(crate) fn code_digits(front: usize) -> Option<usize> {
    PLANS.get(front).map(|plan| usize::from(plan.code_digits)).filter(|&digits| digits > 0)
}

/// Powers of ten.
pub(crate) const POWERS: [u64; 16] = {
    let mut powers = [1; 16];
    let mut n = 1;
    while n < powers.len() {
        powers[n] = powers[n - 1] * 10;
        n += 1;
    }
    powers
};

/// 0, 1, 11, 111 ...: a multiple of it by one digit is a filler such as 9999999999, or short enough
/// for the library.
pub(crate) const REPUNITS: [u64; 16] = {
    let mut repunits = [0; 16];
    let mut n = 1;
    while n < repunits.len() {
        repunits[n] = repunits[n - 1] * 10 + 1;
        n += 1;
    }
    repunits
};

fn build_plans() -> Box<[CodePlan; 1000]> {
    let mut plans = Box::new([CodePlan::default(); 1000]);
    for &(digits, codes) in PREFIX_DIGITS {
        let prefix_digits = set_of(digits);
        for &code in codes {
            let behind = BEHIND_A_ONE.iter().find(|(of, _)| *of == code).map_or("0123456789", |(_, digits)| digits);
            let lengths = library::possible_lengths(code);
            // Every three digits that begin with this code.
            let (code_digits, width) = match code {
                0..10 => (1, 100),
                10..100 => (2, 10),
                _ => (3, 1),
            };
            let start = usize::from(code) * width;
            let old_lengths = renumbered::old_lengths(code);
            let plan =
                CodePlan { code, code_digits, lengths, old_lengths, prefix_digits, behind_a_one: set_of(behind) };
            plans[start..start + width].fill(plan);
        }
    }
    plans
}

/// Bit d for each digit d.
fn set_of(digits: &str) -> u16 {
    digits.bytes().fold(0, |set, digit| set | 1 << (digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Region;
    use crate::library::NumberCandidate;
    use crate::pair_tests::Random;

    const SEED: u64 = 0x5eed_0fda_7a00;

    fn codes() -> Vec<u16> {
        PREFIX_DIGITS.iter().flat_map(|(_, codes)| codes.iter().copied()).collect()
    }

    /// `true` if the short way took it.
    fn agrees(text: &str, region: Option<Region>) -> bool {
        let Some(key) = read(text.as_bytes()) else {
            return false;
        };
        let library = NumberCandidate::read(text, region).map(|candidate| candidate.key());
        assert_eq!(library.map(PhoneKey::e164), Some(key.e164()), "{text}, seed {SEED:#x}");
        true
    }

    #[test]
    fn every_country_code_is_listed() {
        let mut listed = codes();
        let mut known: Vec<_> = rlibphonenumber::PHONE_NUMBER_UTIL
            .get_supported_calling_codes()
            .map(|code| u16::try_from(code).unwrap())
            .collect();
        listed.sort_unstable();
        known.sort_unstable();

        assert_eq!(listed, known);
    }

    #[test]
    fn fast_path_agrees_with_the_library() {
        let mut random = Random(SEED);
        let codes = codes();
        let regions: Vec<_> = ["US", "GB", "DE", "IT", "AR", "BR", "MX", "RU", "SM"]
            .iter()
            .map(|code| Region::parse(code).unwrap())
            .collect();
        let mut taken = 0;
        for round in 0..300_000 {
            let mut text = String::from("+");
            // Mostly known country codes and likely lengths; also codes that do not exist and
            // lengths beside.
            if round % 8 != 0 {
                text.push_str(&codes[random.below(codes.len())].to_string());
            }
            let count = 6 + random.below(11);
            text.push_str(&random.digits(count));
            if round % 4 == 1 {
                let sign = [' ', '-', '.', '(', ')'][random.below(5)];
                text.insert(2 + random.below(text.len() - 2), sign);
            }
            let region = regions.get(random.below(12)).copied();
            taken += u32::from(agrees(&text, region));
        }
        assert!(taken > 59_000, "only {taken} were taken");
    }

    /// The fast path agrees with the library for every front of every plan.
    #[test]
    fn fast_path_agrees_on_every_plans_fronts() {
        let mut random = Random(SEED);
        for code in codes() {
            let lengths = library::possible_lengths(code);
            for count in (5..=14).filter(|count| lengths & (1 << count) != 0) {
                for front in 0..200 {
                    let mut text = format!("+{code}{:02}", front / 2);
                    text.push_str(&random.digits(count - 2));
                    agrees(&text, None);
                }
            }
        }
    }

    /// A value is that of 8 to 15 digits, and of nothing else.
    #[test]
    fn value_needs_8_to_15_digits_nothing_else() {
        let mut random = Random(SEED);
        for count in 0..20 {
            for _ in 0..2_000 {
                let mut text = String::new();
                text.push_str(&random.digits(count));
                let expected = (8..=15).contains(&count).then(|| text.parse().unwrap());
                assert_eq!(value_of(text.as_bytes()), expected, "{text}, seed {SEED:#x}");
                if count > 0 {
                    let mut bytes = text.into_bytes();
                    let at = random.below(count);
                    let other = random.below(256);
                    bytes[at] = u8::try_from(other).unwrap();
                    let is_value = (8..=15).contains(&count) && bytes[at].is_ascii_digit();
                    assert_eq!(value_of(&bytes).is_some(), is_value, "{bytes:?}, seed {SEED:#x}");
                }
            }
        }
    }

    #[test]
    fn what_the_library_rewrites_is_left_to_it() {
        for text in [
            "+44020794600",
            "+5215512345678",
            "+4930123456.0",
            "+4930123456.00 ",
            "+919721221305 (7)",
            "+86282452253",
            "+19999999999",
            "+0123456789",
            "+13108675309 x1",
            "+1310867530",
        ] {
            assert_eq!(read(text.as_bytes()), None, "{text}");
        }
        assert!(read(b"+13108675309").is_some());
        assert!(read(b"+44 (20) 7946-0018").is_some());
        assert!(read(b"+441212345678").is_some());
        assert_eq!(read(b"+441800201234"), None, "180020 may be a prefix");
    }
}
