//! The only place that knows rlibphonenumber: parse, possible or not, valid or not, behind guards.
//!
//! Invariant: nothing panics past this file. One panic of the library is known (a `tel:` after a `;phone-context=`
//! makes it slice backwards), it is rejected beforehand; any other is caught and reads as "no number".

use std::panic::{AssertUnwindSafe, catch_unwind};

use rlibphonenumber::{NumberLengthType, PHONE_NUMBER_UTIL, PhoneNumber, PhoneNumberFormat, PhoneNumberType};

use super::{PhoneKey, ReadNumber, Region, withheld};

/// Digits of a national number that the library reads at most.
const NATIONAL_DIGITS_MAX: u32 = 17;
/// Fewer digits alike are a short number of a small plan.
const FILLER_DIGITS_MIN: u32 = 7;
/// Leading zeros that the library writes out at most.
const LEADING_ZEROS_MAX: u32 = 10;

/// A number that is possible: its country exists and its length is one of that country's.
pub(super) struct Candidate {
    number: PhoneNumber,
    key: PhoneKey,
    had_mexican_prefix: bool,
}

impl Candidate {
    /// Reads what the library takes for one number, after Mexico's old mobile prefixes. `None` if it is no number, has
    /// an impossible length, is only good for local calls, or is a filler or a sentinel.
    pub(super) fn read(text: &str, region: Option<Region>) -> Option<Self> {
        let mut number = parse(text, region)?;
        let had_mexican_prefix = !is_possible(&number);
        if had_mexican_prefix {
            number.national_number = without_mexican_prefix(&number)?;
            number.italian_leading_zero = None;
            number.number_of_leading_zeros = None;
            if !is_possible(&number) {
                return None;
            }
        }
        let key = key_of(&number)?;
        if withheld::is_sentinel(key) || is_filler(&number) {
            return None;
        }
        Some(Self { number, key, had_mexican_prefix })
    }

    /// The number that is stored as this key, if it is possible.
    pub(super) fn of(key: PhoneKey) -> Option<Self> {
        Self::read(&key.e164(), None).filter(|candidate| candidate.key == key)
    }

    /// Whether a country's numbering plan assigns this number. Plans age, so this only decides between two readings,
    /// never whether a number is a number.
    pub(super) fn is_valid(&self) -> bool {
        guarded(|| Some(self.number.is_valid())).unwrap_or(false)
    }

    pub(super) fn key(&self) -> PhoneKey {
        self.key
    }

    /// Whether one of Mexico's old prefixes was taken off.
    pub(super) fn had_mexican_prefix(&self) -> bool {
        self.had_mexican_prefix
    }

    pub(super) fn has_extension(&self) -> bool {
        self.number.extension.is_some()
    }

    pub(super) fn set_extension(&mut self, digits: &str) {
        self.number.extension = Some(digits.to_owned());
    }

    /// Whether the number belongs to a country, not to a service of the world such as +800 or satellites.
    pub(super) fn is_of_a_country(&self) -> bool {
        self.number.get_region_code() != Some(rlibphonenumber::Region::World)
    }

    /// Whether the country code is that of the region.
    pub(super) fn is_of(&self, region: Region) -> bool {
        region_of(region).and_then(|region| PHONE_NUMBER_UTIL.get_country_code_for_region(region))
            == Some(self.number.country_code)
    }

    pub(super) fn into_number(self) -> ReadNumber {
        ReadNumber { key: self.key, extension: self.number.extension }
    }
}

/// Whether the library has a numbering plan for the region.
pub(super) fn is_known(region: Region) -> bool {
    country_code(region).is_some()
}

/// The country code of a region, 1 to 999; regions of one plan share it.
pub(super) fn country_code(region: Region) -> Option<u16> {
    let code = PHONE_NUMBER_UTIL.get_country_code_for_region(region_of(region)?)?;
    u16::try_from(code).ok()
}

/// The digits of any script in a text, as ASCII.
pub(super) fn digits(text: &str) -> String {
    PHONE_NUMBER_UTIL.normalize_digits_only(text)
}

/// The digits of the number as its country writes it at home, with what is dialled before it there (0, Russia's 8, the
/// 15 of Argentine mobiles). `None` if the key is no possible number.
pub(super) fn national_format(key: PhoneKey) -> Option<String> {
    let number = Candidate::of(key)?.number;
    guarded(|| Some(digits(&number.format_as(PhoneNumberFormat::National))))
}

/// Whether the number is a line of a place or a company's number for all of a country, as the plan stands.
pub(super) fn is_fixed_line(key: PhoneKey) -> bool {
    use PhoneNumberType::{FixedLine, FixedLineOrMobile, UAN};
    Candidate::of(key)
        .and_then(|candidate| guarded(|| Some(candidate.number.get_type())))
        .is_some_and(|kind| matches!(kind, FixedLine | FixedLineOrMobile | UAN))
}

/// The possible lengths of a national number after a country code: bit n for n digits.
pub(super) fn possible_lengths(country_code: u16) -> u32 {
    (1..=NATIONAL_DIGITS_MAX).fold(0, |lengths, digits| {
        let number = PhoneNumber {
            country_code: i32::from(country_code),
            national_number: 10_u64.pow(digits - 1),
            ..PhoneNumber::default()
        };
        lengths | u32::from(is_possible(&number)) << digits
    })
}

/// Reads and validates example numbers of every region, which compiles the region's patterns.
pub(super) fn warm_up() {
    for region in PHONE_NUMBER_UTIL.get_supported_regions() {
        for kind in [PhoneNumberType::FixedLine, PhoneNumberType::Mobile] {
            let Ok(example) = PHONE_NUMBER_UTIL.get_example_number_for_type_and_region(region, kind) else {
                continue;
            };
            let national = example.get_national_significant_number();
            let _ = PHONE_NUMBER_UTIL.parse(national, Some(region)).map(|number| number.is_valid());
        }
    }
    for code in PHONE_NUMBER_UTIL.get_supported_global_network_calling_codes() {
        let _ = PHONE_NUMBER_UTIL.get_example_number_for_non_geo_entity(code).map(|number| number.is_valid());
    }
}

fn parse(text: &str, region: Option<Region>) -> Option<PhoneNumber> {
    if let Some(context) = text.find(";phone-context=")
        && text.find("tel:").is_some_and(|scheme| scheme > context)
    {
        return None;
    }
    guarded(|| PHONE_NUMBER_UTIL.parse(text, region.and_then(region_of)).ok())
}

fn is_possible(number: &PhoneNumber) -> bool {
    number.is_possible_with_reason() == Ok(NumberLengthType::IsPossible)
}

/// Runs a call into the library; a panic reads as nothing. Its statics hold compiled patterns only, which a panic
/// cannot leave half-written.
fn guarded<T>(call: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(None)
}

fn region_of(region: Region) -> Option<rlibphonenumber::Region> {
    rlibphonenumber::Region::from_code(region.as_str()).ok()
}

/// What [`without_mexican_prefix`] takes off, as digits without zeros.
pub(super) const MEXICAN_PREFIXES: &[&str] = &["1", "44", "45"];

/// Mexico dialled 1 before mobile numbers from abroad until 2019, and 01, 044, 045 at home; the metadata has forgotten
/// all of it. A national number has ten digits, so what remains is certain.
fn without_mexican_prefix(number: &PhoneNumber) -> Option<u64> {
    const MEXICO: i32 = 52;
    const NATIONAL: u64 = 10_000_000_000;
    let (prefix, rest) = (number.national_number / NATIONAL, number.national_number % NATIONAL);
    let is_prefix = matches!((leading_zeros(number), prefix), (0 | 1, 1) | (1, 44 | 45));
    (number.country_code == MEXICO && is_prefix && rest >= NATIONAL / 10).then_some(rest)
}

fn leading_zeros(number: &PhoneNumber) -> u32 {
    if !number.italian_leading_zero() {
        return 0;
    }
    u32::try_from(number.number_of_leading_zeros()).unwrap_or(0).min(LEADING_ZEROS_MAX)
}

fn national_digits(number: &PhoneNumber) -> u32 {
    number.national_number.checked_ilog10().unwrap_or(0) + 1 + leading_zeros(number)
}

fn key_of(number: &PhoneNumber) -> Option<PhoneKey> {
    let code = u64::try_from(number.country_code).ok()?;
    let key = 10_u64.checked_pow(national_digits(number))?.checked_mul(code)?.checked_add(number.national_number)?;
    PhoneKey::new(key)
}

/// All digits alike, as 0000000000 and 9999999999: possible in many countries, and always typed to get past a form.
fn is_filler(number: &PhoneNumber) -> bool {
    let national = number.national_number;
    if national_digits(number) < FILLER_DIGITS_MIN {
        return false;
    }
    if leading_zeros(number) > 0 {
        return national == 0;
    }
    let last = national % 10;
    let mut rest = national;
    while rest > 0 {
        if rest % 10 != last {
            return false;
        }
        rest /= 10;
    }
    true
}
