//! How a number was come by, beyond the library's own rules: carried with it for whoever asks why.

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Derivation {
    /// One of Mexico's old mobile prefixes was taken off.
    MexicanPrefix,
    /// A prefix of calls abroad that is not the region's.
    ForeignDiallingPrefix,
    /// The text is in international form, but for its plus sign.
    LostPlus,
    /// It stands behind the last plus sign; what was before is no part of it.
    LatePlus,
    /// Invisible characters or separators that the library does not know.
    OddSigns,
    /// The ".0" of a spreadsheet.
    Fraction,
    /// A remark or bracket behind the number was cut off.
    Remark,
    /// The first of a list, of whose others only the last digits are written.
    FirstOfList,
    /// It could also be read as a national number, and that reading is the worse one.
    NotNational,
    /// Its plus sign stands before a national number.
    StrayPlus,
    /// What is dialled for an outside line was taken off.
    OutsideLine,
    /// The country has given it more, or other, digits since.
    Renumbered,
}

/// A set of [`Derivation`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Derivations(u16);

impl Derivations {
    pub(crate) fn set(&mut self, derivation: Derivation) {
        self.0 |= 1 << derivation as u16;
    }

    pub(crate) fn has(self, derivation: Derivation) -> bool {
        self.0 & 1 << derivation as u16 != 0
    }
}
