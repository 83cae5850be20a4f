//! Plans that were renumbered in the last ten years: what a record still holds is the same line as
//! today's number that calls from it.
//!
//! Only changes that follow from the digits alone. Not here, since the digits do not tell: Manila's
//! operators (2019), Vietnam's area codes that are mobiles today, Slovenia's 43, Chile's regions
//! whose old numbers look like mobiles. Brazil's ninth digit is a variant of its own. Pure; the
//! library decides whether the result is assigned, and whether what was written still is.

/// Numbers of one plan that begin with one of these digits, and what they are now.
struct PlanChange {
    /// The country code, 1 to 999.
    code: u16,
    /// Digits of an old national number.
    digits: usize,
    /// The country code now.
    code_now: u16,
    /// What stands before the old digits now.
    inserts: &'static str,
    /// First digits; `a>b`: which are these now.
    fronts: &'static str,
}

const fn change(code: u16, digits: usize, inserts: &'static str, fronts: &'static str) -> PlanChange {
    PlanChange { code, digits, code_now: code, inserts, fronts }
}

impl PlanChange {
    /// First digits, old and new.
    fn fronts(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.fronts.split(' ').map(|front| front.split_once('>').unwrap_or((front, front)))
    }

    fn forth(&self, code: u16, national: &str) -> Option<OtherNumber> {
        if self.code != code || self.digits != national.len() {
            return None;
        }
        let (old, new) = self.fronts().find(|(old, _)| national.starts_with(old))?;
        let national = format!("{}{new}{}", self.inserts, &national[old.len()..]);
        Some(OtherNumber { code: self.code_now, national })
    }

    /// The old number; of changes that insert nothing.
    fn back(&self, code: u16, national: &str) -> Option<OtherNumber> {
        let is_of = |(old, new): &(&str, &str)| {
            national.starts_with(new) && national.len() + old.len() == self.digits + new.len()
        };
        let (old, new) = self.fronts().find(is_of).filter(|_| self.code_now == code)?;
        Some(OtherNumber { code: self.code, national: format!("{old}{}", &national[new.len()..]) })
    }
}

/// Each with its source; "OB" is the ITU's Operational Bulletin, in which regulators announce their
/// plans.
const CHANGES: &[PlanChange] = &[
    // Benin, 30 November 2024: 01 before all of them. OB 1292.
    change(229, 8, "01", "2 4 5 6 9"),
    // Ivory Coast, 31 January 2021: two digits by the operator to which the range belongs. OB 1212.
    change(225, 8, "01", "01 02 03 40 41 42 43 50 51 52 53 70 71 72 73"),
    change(225, 8, "05", "04 05 06 44 45 46 54 55 56 64 65 66 74 75 76 84 85 86 94 95 96"),
    change(225, 8, "07", "07 08 09 47 48 49 57 58 59 67 68 69 77 78 79 87 88 89 97 98"),
    change(225, 8, "21", "208 218 228 238"),
    change(225, 8, "25", "200 210 220 230 240 300 310 320 330 340 350 360"),
    change(225, 8, "27", "202 203 212 213 215 217 224 225 234 235 243 244 245 306 316 319 327 337 347 357 367"),
    // Colombia's fixed lines, 1 September 2021: 60 before the area's digit. OB 1187, resolution CRC
    // 5826 of 2019.
    change(57, 8, "60", "1 2 4 5 6 7 8"),
    // Nigeria's fixed lines, 31 December 2023: 20 before the area. OB 1280.
    change(
        234,
        8,
        "20",
        "1 2 9 30 31 33 34 35 36 37 38 39 41 42 43 44 45 46 47 48 50 51 52 53 54 55 56 57 58 59 60 62 64 65 66 68 69 71 72 73 \
         74 75 76 77 79 82 83 84 85 86 87 88 89",
    ),
    // Vietnam's mobiles, 15 September 2018. OB 1150.
    change(
        84,
        10,
        "",
        "120>70 121>79 122>77 126>76 128>78 123>83 124>84 125>85 127>81 129>82 162>32 163>33 164>34 165>35 166>36 167>37 \
         168>38 169>39 186>56 188>58 199>59",
    ),
    // Chile, complete since 5 September 2016: nine digits everywhere, no 0 and no 9 before them
    // when one dials. OB 1109.
    change(56, 8, "", "8>98 9>99 32>322 33>332 34>342 35>352"),
    change(56, 10, "", "02>2 03>3 04>4 05>5 06>6 07>7 09>9"),
    // Kosovo has its own country code since 15 December 2016: this was Slovenia's. OB 1123, 1188.
    PlanChange { code_now: 383, ..change(386, 8, "", "49") },
];

/// Old numbers that the library's plan still knows, or that look like random digits: both keys
/// stay, and are variants of each other.
const TWINS: &[PlanChange] = &[
    // Gabon, November 2019; the old ones were switched off on 6 April 2024. OB 1174, 1288.
    change(241, 8, "", "01>11 02>62 04>74 05>65 06>66 07>77"),
    // Kosovo's numbers of Serbia and Monaco.
    PlanChange { code_now: 383, ..change(381, 8, "", "28 29 38 39") },
    PlanChange { code_now: 383, ..change(377, 8, "", "44 45") },
    // Vietnam's areas, 2017, those whose old codes are nobody's today. OB 1114.
    change(
        84,
        10,
        "",
        "231>213 230>215 510>235 511>236 240>204 280>208 281>209 320>220 321>221 241>222 351>226 350>228 780>290 781>291 \
         710>292 711>293 501>261 500>262 651>271 650>274",
    ),
    change(
        84,
        9,
        "",
        "22>212 20>214 29>216 53>233 54>234 25>205 26>206 27>207 74>294 61>251 62>252 64>254 57>257 68>259 60>260 63>263 \
         72>272 73>273 75>275 66>276 4>24",
    ),
];

/// Another number of the same line.
pub(crate) struct OtherNumber {
    /// The country code.
    pub(crate) code: u16,
    /// The national number.
    pub(crate) national: String,
}

/// Today's number for a country code and a national number of a shape that has changed.
pub(crate) fn today(code: u16, national: &str) -> Option<OtherNumber> {
    let of = |national: &str| CHANGES.iter().find_map(|change| change.forth(code, national));
    // The library leaves a 0 that is dialled at home where the rest is too short for today's plan.
    of(national).or_else(|| of(national.strip_prefix('0')?))
}

/// The old number of one of today's, or today's of an old one, where both stay keys.
pub(crate) fn twin(code: u16, national: &str) -> Option<OtherNumber> {
    TWINS.iter().find_map(|change| change.forth(code, national).or_else(|| change.back(code, national)))
}

/// Bit n for each length n of which some old numbers of the country code were: these are for the
/// long way.
pub(crate) fn old_lengths(code: u16) -> u32 {
    CHANGES.iter().filter(|change| change.code == code).fold(0, |lengths, change| lengths | 1 << change.digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Region, read};

    /// An old number is read as what it is today.
    #[test]
    fn old_number_is_read_as_todays() {
        for (region, text, expected) in [
            ("BJ", "97 12 34 56", "+2290197123456"),
            ("US", "+229 97 12 34 56", "+2290197123456"),
            ("CI", "07 12 34 56", "+2250707123456"),
            ("CI", "+225 44 12 34 56", "+2250544123456"),
            ("CI", "20 21 34 56", "+2252720213456"),
            ("CO", "+57 1 2345678", "+576012345678"),
            ("CO", "(4) 444 5678", "+576044445678"),
            ("CL", "09 8123 4567", "+56981234567"),
            ("CL", "08 123 4567", "+56981234567"),
            ("CL", "+56 8 123 4567", "+56981234567"),
            ("CL", "02 2123 4567", "+56221234567"),
            ("NG", "01 270 1234", "+2342012701234"),
            ("VN", "0163 123 4567", "+84331234567"),
            ("VN", "+84 120 123 4567", "+84701234567"),
            ("DE", "+386 49 123 456", "+38349123456"),
        ] {
            let reading = read(text, Region::parse(region).ok());

            assert_eq!(reading.first().map(|number| number.key.e164()).as_deref(), Some(expected), "{region} {text}");
        }
    }

    #[test]
    fn todays_number_stays_as_it_is() {
        for number in [
            "+2290197123456",
            "+2250707123456",
            "+576012345678",
            "+573001234567",
            "+56981234567",
            "+56221234567",
            "+24177123456",
            "+84331234567",
            "+84701234567",
            "+842438251234",
            "+38344123456",
            "+38641234567",
            "+38643123456",
            "+381112345678",
            "+37799123456",
        ] {
            let reading = read(number, None);

            assert_eq!(reading.first().map(|number| number.key.e164()).as_deref(), Some(number));
        }
    }

    /// Nothing that is made of an old number is an old number.
    #[test]
    fn renumbered_number_is_never_renumbered_again() {
        for change in CHANGES.iter().chain(TWINS) {
            for (old, _) in change.fronts() {
                let national = format!("{old}{}", &"12345678901234"[..change.digits - old.len()]);
                let now = change.forth(change.code, &national).unwrap();

                assert!(today(now.code, &now.national).is_none(), "+{} {}", now.code, now.national);
            }
        }
    }

    #[test]
    fn twins_have_each_other() {
        for change in TWINS {
            for (old, _) in change.fronts() {
                let national = format!("{old}{}", &"35351234567890"[..change.digits - old.len()]);
                let now = twin(change.code, &national).unwrap();
                let back = twin(now.code, &now.national).unwrap();

                assert_eq!((back.code, back.national), (change.code, national));
            }
        }
    }
}
