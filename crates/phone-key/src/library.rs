//! The only place that reads numbers by rlibphonenumber: parse, possible or not, valid or not,
//! behind guards.
//!
//! Invariant: nothing panics past this file. One panic of the library is known (a `tel:` after a
//! `;phone-context=` makes it slice backwards), it is rejected beforehand; any other is caught and
//! reads as "no number".

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::LazyLock;

use rlibphonenumber::{
    NumberLengthType, PHONE_NUMBER_UTIL, ParseError, PhoneNumber, PhoneNumberFormat, PhoneNumberType, ValidationError,
};

use crate::derivations::{Derivation, Derivations};
use crate::region::REGIONS;
use crate::{PhoneKey, ReadNumber, Region, renumbered, text, withheld};

/// Where numbers have as many lengths, one that the plan does not assign may be another country's.
pub(crate) const ABROAD_LENGTHS_MIN: u32 = 4;
/// A plan of as many lengths is open: without the 0 that is dialled there nearly any digits are a
/// number, assigned or not. Germany has 12, Austria 10, Britain 3.
pub(crate) const OPEN_LENGTHS_MIN: u32 = 6;
/// In a plan of as many lengths ..
pub(crate) const BARE_LENGTHS_MIN: u32 = 8;
/// .. as few digits, without the 0 that is dialled there and assigned to nobody, are an extension,
/// an order number, a filler.
pub(crate) const BARE_DIGITS_MAX: usize = 6;

/// Digits of a national number that the library reads at most.
const NATIONAL_DIGITS_MAX: u32 = 17;
/// Fewer digits alike may be a short number of a small plan, if it is assigned.
const FILLER_DIGITS_MIN: u32 = 7;
/// 1234567890: a number in Bedford and in Vienna, and typed to get past a form elsewhere.
const KEYBOARD_FILLER: u64 = 1_234_567_890;
/// Leading zeros that the library writes out at most.
const LEADING_ZEROS_MAX: u32 = 10;

/// A number that is possible: its country exists and its length is one of that country's.
pub(crate) struct NumberCandidate {
    number: PhoneNumber,
    key: PhoneKey,
    derivations: Derivations,
}

/// Why a text is no candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RefusedText {
    pub(crate) why: ReadRefusal,
    /// The country code by whose plan it was refused, if the text got as far.
    pub(crate) country_code: Option<u16>,
}

/// What is wrong with a text that gives no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadRefusal {
    /// Longer than [`super::RAW_LENGTH_MAX`] bytes.
    TextTooLong,
    /// Words or signs only.
    NoDigits,
    /// 12/03/2021, 192.168.1.10.
    DateOrAddress,
    /// All digits alike, or 1234567890.
    Filler,
    /// A keypad sentinel behind a prefix of calls abroad.
    Sentinel,
    /// Written without a country code, and the region is not known.
    NoCountry,
    /// No country has the code behind the plus sign.
    UnknownCountryCode,
    /// A number without its area code.
    LocalOnly,
    /// Fewer digits than any number of the plan.
    TooShort,
    /// More digits than any number of the plan.
    TooLong,
    /// A length between two that the plan has.
    ImpossibleLength,
    /// Digits, words and signs that are not written as a number.
    NotANumber,
    /// It can be read, but something about it says that it is no number, or two readings disagree.
    Doubtful,
}

impl NumberCandidate {
    /// Reads what the library takes for one number, after Mexico's old mobile prefixes. `None` if
    /// it is no number, has an impossible length, is only good for local calls, or is a filler or a
    /// sentinel.
    pub(crate) fn read(text: &str, region: Option<Region>) -> Option<Self> {
        Self::try_read(text, region).ok()
    }

    /// As [`Self::read`], with the reason.
    pub(crate) fn try_read(text: &str, region: Option<Region>) -> Result<Self, RefusedText> {
        let mut number =
            parse(text, region).map_err(|why| RefusedText { why, country_code: region.and_then(country_code) })?;
        let country_code = u16::try_from(number.country_code).ok();
        let refused = |why| RefusedText { why, country_code };
        let mut derivations = Derivations::default();
        if let Some(now) = renumbered(&number) {
            number = now;
            derivations.set(Derivation::Renumbered);
        }
        if let Err(why) = check_length(&number) {
            number.national_number = without_mexican_prefix(&number).ok_or(refused(why))?;
            number.italian_leading_zero = None;
            number.number_of_leading_zeros = None;
            check_length(&number).map_err(refused)?;
            derivations.set(Derivation::MexicanPrefix);
        }
        let key = key_of(&number).ok_or(refused(ReadRefusal::TooLong))?;
        if withheld::is_sentinel(key) {
            return Err(refused(ReadRefusal::Sentinel));
        }
        if is_filler(&number) {
            return Err(refused(ReadRefusal::Filler));
        }
        Ok(Self { number, key, derivations })
    }

    /// The same number, come by in this way.
    pub(crate) fn derived(mut self, derivation: Derivation) -> Self {
        self.derivations.set(derivation);
        self
    }

    pub(crate) fn derivations(&self) -> Derivations {
        self.derivations
    }

    /// The number that is stored as this key, if it is possible.
    pub(crate) fn of(key: PhoneKey) -> Option<Self> {
        Self::read(&key.e164(), None).filter(|candidate| candidate.key == key)
    }

    /// Whether a country's numbering plan assigns this number. Plans age, so this only decides
    /// between two readings, never whether a number is a number.
    pub(crate) fn is_valid(&self) -> bool {
        guarded(|| Some(self.number.is_valid())).unwrap_or(false)
    }

    pub(crate) fn key(&self) -> PhoneKey {
        self.key
    }

    /// Whether one of Mexico's old prefixes was taken off.
    pub(crate) fn had_mexican_prefix(&self) -> bool {
        self.derivations.has(Derivation::MexicanPrefix)
    }

    pub(crate) fn has_extension(&self) -> bool {
        self.number.extension.is_some()
    }

    /// Whether no digit of the text was left out, as a prefix is.
    pub(crate) fn has_all_digits_of(&self, text: &str) -> bool {
        text::ascii_digits(text).is_none_or(|digits| self.key.is(digits))
    }

    pub(crate) fn extension(&self) -> Option<&str> {
        self.number.extension.as_deref()
    }

    /// Whether letters of the text became digits: it shows fewer digits than the number and its
    /// extension have.
    pub(crate) fn is_spelled_in(&self, text: &str) -> bool {
        let national = self.national_digits();
        let extension = self.extension().map_or(0, str::len);
        text.contains(|c: char| c.is_ascii_alphabetic())
            && text::count_digits(text) < national.saturating_add(extension)
    }

    pub(crate) fn set_extension(&mut self, digits: &str) {
        self.number.extension = Some(digits.to_owned());
    }

    /// Digits of the national number, leading zeros included.
    pub(crate) fn national_digits(&self) -> usize {
        usize::try_from(national_digits(&self.number)).unwrap_or(usize::MAX)
    }

    /// Whether the number may be a line of a place, or is of no known kind: these have many
    /// lengths, mobiles and the like one.
    pub(crate) fn may_be_of_a_place(&self) -> bool {
        use PhoneNumberType::{FixedLine, FixedLineOrMobile, Unknown};
        guarded(|| Some(self.number.get_type()))
            .is_none_or(|kind| matches!(kind, FixedLine | FixedLineOrMobile | Unknown))
    }

    /// Whether the number belongs to a country, not to a service of the world such as +800 or
    /// satellites.
    pub(crate) fn is_of_a_country(&self) -> bool {
        self.number.get_region_code() != Some(rlibphonenumber::Region::World)
    }

    pub(crate) fn country_code(&self) -> i32 {
        self.number.country_code
    }

    /// Whether the country code is that of the region.
    pub(crate) fn is_of(&self, region: Region) -> bool {
        region.in_library().and_then(|region| PHONE_NUMBER_UTIL.get_country_code_for_region(region))
            == Some(self.number.country_code)
    }

    pub(crate) fn into_number(self) -> ReadNumber {
        ReadNumber { key: self.key, extension: self.number.extension }
    }
}

/// The country code of a region, 1 to 999; regions of one plan share it.
pub(crate) fn country_code(region: Region) -> Option<u16> {
    let code = PHONE_NUMBER_UTIL.get_country_code_for_region(region.in_library()?)?;
    u16::try_from(code).ok()
}

/// How many lengths a national number of the region may have.
pub(crate) fn lengths(region: Region) -> u32 {
    LENGTHS[region.index()]
}

static LENGTHS: LazyLock<Vec<u32>> = LazyLock::new(|| {
    let code = |region: &Option<rlibphonenumber::Region>| PHONE_NUMBER_UTIL.get_country_code_for_region((*region)?);
    let lengths = |code: i32| u16::try_from(code).map_or(0, |code| possible_lengths(code).count_ones());
    REGIONS.iter().map(|region| code(region).map_or(0, lengths)).collect()
});

/// The digits of any script in a text, as ASCII.
pub(crate) fn digits(text: &str) -> String {
    PHONE_NUMBER_UTIL.normalize_digits_only(text)
}

/// The digits of the number as its country writes it at home, with what is dialled before it there
/// (0, Russia's 8, the 15 of Argentine mobiles). `None` if the key is no possible number.
pub(crate) fn national_format(key: PhoneKey) -> Option<String> {
    let number = NumberCandidate::of(key)?.number;
    guarded(|| Some(digits(&number.format_as(PhoneNumberFormat::National))))
}

/// Whether the number is a line of a place or a company's number for all of a country, as the plan
/// stands.
pub(crate) fn is_fixed_line(key: PhoneKey) -> bool {
    use PhoneNumberType::{FixedLine, FixedLineOrMobile, UAN};
    NumberCandidate::of(key)
        .and_then(|candidate| guarded(|| Some(candidate.number.get_type())))
        .is_some_and(|kind| matches!(kind, FixedLine | FixedLineOrMobile | UAN))
}

/// Whether a country's numbering plan assigns the number, as the metadata knows it.
pub fn is_assigned(key: PhoneKey) -> bool {
    NumberCandidate::of(key).is_some_and(|candidate| candidate.is_valid())
}

/// The possible lengths of a national number after a country code: bit n for n digits.
pub(crate) fn possible_lengths(country_code: u16) -> u32 {
    (1..=NATIONAL_DIGITS_MAX).fold(0, |lengths, digits| {
        let number = PhoneNumber {
            country_code: i32::from(country_code),
            national_number: 10_u64.pow(digits - 1),
            ..PhoneNumber::default()
        };
        lengths | u32::from(check_length(&number).is_ok()) << digits
    })
}

/// Reads and validates example numbers of every region, which compiles the region's patterns.
pub(crate) fn warm_up() {
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

fn parse(text: &str, region: Option<Region>) -> Result<PhoneNumber, ReadRefusal> {
    if text.contains(';')
        && let Some(context) = text.find(";phone-context=")
        && text.find("tel:").is_some_and(|scheme| scheme > context)
    {
        return Err(ReadRefusal::NotANumber);
    }
    let number = guarded(|| Some(PHONE_NUMBER_UTIL.parse(text, region.and_then(Region::in_library))));
    number.ok_or(ReadRefusal::NotANumber)?.map_err(|error| match error {
        ParseError::InvalidCountryCode if region.is_none() && !text::has_plus(text) => ReadRefusal::NoCountry,
        ParseError::InvalidCountryCode => ReadRefusal::UnknownCountryCode,
        ParseError::TooShortAfterIdd | ParseError::TooShortNsn => ReadRefusal::TooShort,
        ParseError::TooLongNsn => ReadRefusal::TooLong,
        ParseError::NotANumber(_) => ReadRefusal::NotANumber,
    })
}

fn check_length(number: &PhoneNumber) -> Result<(), ReadRefusal> {
    match number.is_possible_with_reason() {
        Ok(NumberLengthType::IsPossible) => Ok(()),
        Ok(NumberLengthType::IsPossibleLocalOnly) => Err(ReadRefusal::LocalOnly),
        Err(ValidationError::InvalidCountryCode) => Err(ReadRefusal::UnknownCountryCode),
        Err(ValidationError::TooShort) => Err(ReadRefusal::TooShort),
        Err(ValidationError::TooLong) => Err(ReadRefusal::TooLong),
        Err(ValidationError::InvalidLength) => Err(ReadRefusal::ImpossibleLength),
    }
}

/// The number as it is since its plan has changed. What is assigned today is no old number.
fn renumbered(number: &PhoneNumber) -> Option<PhoneNumber> {
    let national = number.get_national_significant_number();
    let now = renumbered::today(u16::try_from(number.country_code).ok()?, &national)?;
    let is_valid = |number: &PhoneNumber| guarded(|| Some(number.is_valid())).unwrap_or(false);
    if is_valid(number) {
        return None;
    }
    let mut today = parse(&format!("+{}{}", now.code, now.national), None).ok().filter(is_valid)?;
    today.extension.clone_from(&number.extension);
    Some(today)
}

/// Runs a call into the library; a panic reads as nothing. Its statics hold compiled patterns only,
/// which a panic cannot leave half-written.
fn guarded<T>(call: impl FnOnce() -> Option<T>) -> Option<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(None)
}

/// What [`without_mexican_prefix`] takes off, as digits without zeros.
pub(crate) const MEXICAN_PREFIXES: &[&str] = &["1", "44", "45"];

/// Mexico dialled 1 before mobile numbers from abroad until 2019, and 01, 044, 045 at home; the
/// metadata has forgotten all of it. A national number has ten digits, so what remains is certain.
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

/// All digits alike, as 0000000000 and 9999999999: possible in many countries, and always typed to
/// get past a form.
fn is_filler(number: &PhoneNumber) -> bool {
    let national = number.national_number;
    if national == KEYBOARD_FILLER {
        return !guarded(|| Some(number.is_valid())).unwrap_or(false);
    }
    if national_digits(number) < FILLER_DIGITS_MIN && guarded(|| Some(number.is_valid())).unwrap_or(false) {
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
