//! Countries of records: which region an address names, and which of two regions a number was
//! written in.

use std::str::FromStr as _;

use crate::{Reading, Region, is_assigned, national, read};

/// Letters of a country's name that are looked at; the longest official name has 52.
const LETTERS_MAX: usize = 60;

/// Names in daily use that the list of countries lacks, in small letters without blanks.
const DAILY_NAMES: &[(&str, &str)] = &[
    ("uk", "GB"),
    ("uae", "AE"),
    ("northmacedonia", "MK"),
    ("unitedstatesofamerica", "US"),
    ("republicofkorea", "KR"),
];

impl Region {
    /// The region of a country as the address of a CRM's record names it: by its ISO 3166-1 code of
    /// two or three letters or by its English name, in any case. Names in other languages are not
    /// known.
    pub fn of_country(country: &str) -> Option<Self> {
        let name: String =
            country.chars().filter(|c| c.is_alphanumeric()).take(LETTERS_MAX).flat_map(char::to_lowercase).collect();
        if name.contains(char::is_numeric) {
            return None;
        }
        let code = |name: &str| {
            let daily = DAILY_NAMES.iter().find(|(daily, _)| *daily == name).map(|(_, code)| *code);
            daily.or_else(|| celes::Country::from_str(name).ok().map(|country| country.alpha2))
        };
        let code = code(&name).or_else(|| code(name.strip_prefix("the")?))?;
        Self::parse(code).ok()
    }
}

/// Reads a number of a record whose address is in `country`, in an account at `home`, and says by
/// which of both it was read.
///
/// The record's country comes first, if its plan assigns the number and the text shows what is
/// dialled before it there (0 in most of Europe). An address abroad does not move a line, and may
/// be none ("DE" is also Delaware): else the reading at home stands, if its plan assigns it or only
/// it is a number.
pub fn read_near(raw: &str, country: Option<Region>, home: Region) -> (Reading, Region) {
    let Some(country) = country.filter(|&country| country != home) else {
        return (read(raw, Some(home)), home);
    };
    let abroad = read(raw, Some(country));
    if are_assigned(&abroad) && national::shows_trunk(raw, country) {
        return (abroad, country);
    }
    let at_home = read(raw, Some(home));
    if are_assigned(&at_home) || abroad.first().is_none() && at_home.first().is_some() {
        (at_home, home)
    } else {
        (abroad, country)
    }
}

/// Whether the plans assign all numbers of the reading, of which there is one at least.
fn are_assigned(reading: &Reading) -> bool {
    reading.first().is_some() && reading.numbers().all(|number| is_assigned(number.key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(code: &str) -> Region {
        Region::parse(code).unwrap()
    }

    fn near(raw: &str, country: &str, home: &str) -> (String, String) {
        let (reading, by) = read_near(raw, Some(region(country)), region(home));
        (reading.first().map_or_else(|| "-".to_owned(), |number| number.key.e164()), by.to_string())
    }

    /// Countries are known by code and by English name.
    #[test]
    fn countries_are_known_by_code_and_english_name() {
        for (country, code) in [
            ("US", "US"),
            ("usa", "US"),
            ("United States", "US"),
            ("United States of America", "US"),
            ("U.K.", "GB"),
            ("United Kingdom", "GB"),
            ("Great Britain", "GB"),
            (" Germany ", "DE"),
            ("DEU", "DE"),
            ("The Netherlands", "NL"),
            ("South Korea", "KR"),
            ("Czech Republic", "CZ"),
            ("United Arab Emirates", "AE"),
            ("Cote d'Ivoire", "CI"),
            ("Hong Kong", "HK"),
            ("Puerto Rico", "PR"),
        ] {
            assert_eq!(Region::of_country(country), Some(region(code)), "{country}");
        }
        // 276 is Germany's number of the standard, and more likely a mistake.
        for country in ["", "-", "276", "ZZ", "Wonderland", "Deutschland", "Antarctica"] {
            assert_eq!(Region::of_country(country), None, "{country}");
        }
    }

    /// Numbers are read in the record's country before the account's.
    #[test]
    fn records_country_is_tried_before_accounts() {
        for (raw, country, home, key, by) in [
            ("030 123456", "DE", "US", "+4930123456", "DE"),
            // Germany would have a number of it, too.
            ("044 668 18 00", "CH", "DE", "+41446681800", "CH"),
            ("020 7946 0018", "GB", "US", "+442079460018", "GB"),
            ("(310) 867-5309", "US", "US", "+13108675309", "US"),
            ("912 345 678", "ES", "US", "+34912345678", "ES"),
        ] {
            assert_eq!(near(raw, country, home), (key.to_owned(), by.to_owned()), "{raw}");
        }
    }

    /// A line at home is kept by whoever moves abroad.
    #[test]
    fn home_line_stays_when_its_owner_moves_abroad() {
        assert_eq!(near("(310) 867-5309", "FR", "US"), ("+13108675309".to_owned(), "US".to_owned()));
        // Both plans assign it, and in Germany it would be written with a 0. Delaware's code is
        // Germany's, too.
        assert_eq!(near("(310) 867-5309", "DE", "US"), ("+13108675309".to_owned(), "US".to_owned()));
        assert_eq!(near("+49 30 123456", "DE", "US").0, "+4930123456");
        assert_eq!(near("07700 900123", "ES", "GB"), ("+447700900123".to_owned(), "GB".to_owned()));
        assert_eq!(near("12", "DE", "US"), ("-".to_owned(), "DE".to_owned()));
    }
}
