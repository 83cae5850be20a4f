//! The countries whose numbering plans are known.

use std::{fmt, sync::LazyLock};

use rlibphonenumber::PHONE_NUMBER_UTIL;
use serde::{Deserialize, Serialize};

/// The library's own regions by two letters: it compares texts to find one, which takes longer than
/// some numbers do.
pub(crate) static REGIONS: LazyLock<Vec<Option<rlibphonenumber::Region>>> = LazyLock::new(|| {
    let letters = || (b'A'..=b'Z').map(char::from);
    letters()
        .flat_map(|first| letters().map(move |second| [first, second].iter().collect::<String>()))
        .map(|code| rlibphonenumber::Region::from_code(&code).ok())
        .collect()
});

/// A country or territory by its ISO 3166-1 alpha-2 code, of those whose numbering plan is known
/// (245 of them, also AC, TA and XK).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region([u8; 2]);

impl Region {
    /// Every [`Self::index`] is smaller.
    pub(crate) const INDEX_END: usize = 26 * 26;

    /// A place in a table of all pairs of letters.
    pub(crate) fn index(self) -> usize {
        let [first, second] = self.0.map(|letter| usize::from(letter - b'A'));
        first * 26 + second
    }

    /// The library's own, if it knows the letters.
    pub(crate) fn in_library(self) -> Option<rlibphonenumber::Region> {
        REGIONS[self.index()]
    }

    fn has_plan(self) -> bool {
        self.in_library().is_some_and(|region| PHONE_NUMBER_UTIL.get_country_code_for_region(region).is_some())
    }

    /// Two ASCII letters in either case.
    pub fn parse(code: &str) -> Result<Self, UnknownRegion> {
        let &[first, second] = code.as_bytes() else {
            return Err(UnknownRegion);
        };
        let region = Self([first.to_ascii_uppercase(), second.to_ascii_uppercase()]);
        if region.0.iter().all(u8::is_ascii_uppercase) && region.has_plan() { Ok(region) } else { Err(UnknownRegion) }
    }

    /// Two upper-case letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a region is two ASCII letters by construction")
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({self})")
    }
}

impl std::str::FromStr for Region {
    type Err = UnknownRegion;

    fn from_str(code: &str) -> Result<Self, UnknownRegion> {
        Self::parse(code)
    }
}

impl TryFrom<String> for Region {
    type Error = UnknownRegion;

    fn try_from(code: String) -> Result<Self, UnknownRegion> {
        Self::parse(&code)
    }
}

impl From<Region> for String {
    fn from(region: Region) -> Self {
        region.as_str().to_owned()
    }
}

/// The text names no region with a known numbering plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("region is unknown, an ISO 3166-1 alpha-2 code such as US or DE would be right")]
pub struct UnknownRegion;
