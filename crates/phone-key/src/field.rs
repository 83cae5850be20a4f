//! The order in which a field is read: several numbers first, then one.

use crate::split::NumberCandidates;
use crate::text::{self, TextShape};
use crate::{Region, one_number, second_reading, split};

/// The numbers of a field that was unwrapped and is not withheld.
pub(crate) fn read(text: &str, region: Option<Region>) -> Option<NumberCandidates> {
    let shape = TextShape::of(text);
    if (shape.has_letters || shape.has_separators)
        && let Some(numbers) = split::read(text, region)
    {
        return Some(numbers);
    }
    one_number::read_shaped(text, &shape, region)
        .or_else(|| second_reading::after_late_plus(text::from_first_digit(text)?))
        .map(NumberCandidates::one)
}
