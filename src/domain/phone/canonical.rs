//! The short way for numbers in international form: `+` and 8 to 15 digits, with or without blanks, dashes, full stops
//! and brackets. What a carrier sends and most CRMs store takes it, without the library and without the heap.
//!
//! Invariant: it either gives exactly the key that the library gives, or nothing, and then the library decides.

use std::sync::LazyLock;

use super::calling_codes::PREFIX_DIGITS;
use super::{PhoneKey, library, withheld};

const DIGITS_MIN: usize = 8;
const DIGITS_MAX: usize = 15;
/// Longer text is left to the library: fifteen digits, a sign before each and a few more, bytes.
const TEXT_MAX: usize = 32;

/// What is known of numbers that begin with three given digits. The default is a plan of which nothing is known.
#[derive(Clone, Copy, Default)]
struct Plan {
    code: u16,
    /// Digits of the country code, 1 to 3.
    code_digits: usize,
    /// Bit n: a national number of n digits is possible.
    lengths: u32,
    /// Bit d: a national number that begins with d may lose a prefix.
    prefix_digits: u16,
}

static PLANS: LazyLock<Box<[Plan; 1000]>> = LazyLock::new(build_plans);

/// Builds the table, about a millisecond.
pub(super) fn warm_up() {
    LazyLock::force(&PLANS);
}

/// The key of a number in plain international form, where it is certain.
pub(super) fn read(raw: &[u8]) -> Option<PhoneKey> {
    let (&b'+', text) = raw.split_first()? else {
        return None;
    };
    // ".0" at the end is what a spreadsheet leaves, not a digit of the number.
    if text.len() > TEXT_MAX || text.ends_with(b".0") {
        return None;
    }
    let mut value: u64 = 0;
    let mut digits = [0_u8; DIGITS_MAX];
    let mut count = 0;
    for &byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            *digits.get_mut(count)? = digit;
            count += 1;
            value = value * 10 + u64::from(digit);
        } else if !matches!(byte, b' ' | b'-' | b'.' | b'(' | b')') {
            return None;
        }
    }
    if count < DIGITS_MIN {
        return None;
    }

    let front = usize::from(digits[0]) * 100 + usize::from(digits[1]) * 10 + usize::from(digits[2]);
    let plan = PLANS[front];
    let national_count = count - plan.code_digits;
    if plan.lengths & (1 << national_count) == 0 {
        return None;
    }
    let first = digits[plan.code_digits];
    let national = value - u64::from(plan.code) * POWERS[national_count];
    if plan.prefix_digits & (1 << first) != 0 || national == u64::from(first) * REPUNITS[national_count] {
        return None;
    }
    PhoneKey::new(value).filter(|key| !withheld::is_sentinel(*key))
}

/// How many digits the country code has with which a number of these first three digits begins.
pub(super) fn code_digits(front: usize) -> Option<usize> {
    PLANS.get(front).map(|plan| plan.code_digits).filter(|&digits| digits > 0)
}

/// Powers of ten.
const POWERS: [u64; 16] = {
    let mut powers = [1; 16];
    let mut n = 1;
    while n < powers.len() {
        powers[n] = powers[n - 1] * 10;
        n += 1;
    }
    powers
};

/// 0, 1, 11, 111 ...: a multiple of it by one digit is a filler such as 9999999999, or short enough for the library.
const REPUNITS: [u64; 16] = {
    let mut repunits = [0; 16];
    let mut n = 1;
    while n < repunits.len() {
        repunits[n] = repunits[n - 1] * 10 + 1;
        n += 1;
    }
    repunits
};

fn build_plans() -> Box<[Plan; 1000]> {
    let mut plans = Box::new([Plan::default(); 1000]);
    for &(digits, codes) in PREFIX_DIGITS {
        let prefix_digits = digits.bytes().fold(0, |set, digit| set | 1 << (digit - b'0'));
        for &code in codes {
            let lengths = library::possible_lengths(code);
            // Every three digits that begin with this code.
            let (code_digits, width) = match code {
                0..10 => (1, 100),
                10..100 => (2, 10),
                _ => (3, 1),
            };
            let start = usize::from(code) * width;
            plans[start..start + width].fill(Plan { code, code_digits, lengths, prefix_digits });
        }
    }
    plans
}

#[cfg(test)]
mod tests {
    use super::super::Region;
    use super::super::library::Candidate;
    use super::*;

    const SEED: u64 = 0x5eed_0fda_7a00;

    /// xorshift64*, enough to spread numbers.
    struct Digits(u64);

    impl Digits {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % limit
        }

        fn write(&mut self, count: usize, text: &mut String) {
            (0..count).for_each(|_| text.push_str(["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"][self.below(10)]));
        }
    }

    fn codes() -> Vec<u16> {
        PREFIX_DIGITS.iter().flat_map(|(_, codes)| codes.iter().copied()).collect()
    }

    /// `true` if the short way took it.
    fn agrees(text: &str, region: Option<Region>) -> bool {
        let Some(key) = read(text.as_bytes()) else {
            return false;
        };
        let library = Candidate::read(text, region).map(|candidate| candidate.key());
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
        let mut digits = Digits(SEED);
        let codes = codes();
        let regions: Vec<_> = ["US", "GB", "DE", "IT", "AR", "BR", "MX", "RU", "SM"]
            .iter()
            .map(|code| Region::parse(code).unwrap())
            .collect();
        let mut taken = 0;
        for round in 0..300_000 {
            let mut text = String::from("+");
            // Mostly known country codes and likely lengths; also codes that do not exist and lengths beside.
            if round % 8 != 0 {
                text.push_str(&codes[digits.below(codes.len())].to_string());
            }
            let count = 6 + digits.below(11);
            digits.write(count, &mut text);
            if round % 4 == 1 {
                let sign = [' ', '-', '.', '(', ')'][digits.below(5)];
                text.insert(2 + digits.below(text.len() - 2), sign);
            }
            let region = regions.get(digits.below(12)).copied();
            taken += u32::from(agrees(&text, region));
        }
        assert!(taken > 60_000, "only {taken} were taken");
    }

    #[test]
    fn fast_path_agrees_for_every_front_of_every_plan() {
        let mut digits = Digits(SEED);
        for code in codes() {
            let lengths = library::possible_lengths(code);
            for count in (5..=14).filter(|count| lengths & (1 << count) != 0) {
                for front in 0..200 {
                    let mut text = format!("+{code}{:02}", front / 2);
                    digits.write(count - 2, &mut text);
                    agrees(&text, None);
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
    }
}
