//! One number with whatever stands around it: remarks, brackets, words before it.

use crate::library::NumberCandidate;
use crate::text::{self, TextShape};
use crate::{Region, extension, plain, remarks};

/// One number with whatever stands around it.
pub(crate) fn read(text: &str, region: Option<Region>) -> Option<NumberCandidate> {
    read_shaped(text, &TextShape::of(text), region)
}

pub(crate) fn read_shaped(text: &str, shape: &TextShape, region: Option<Region>) -> Option<NumberCandidate> {
    if shape.has_letters && text::has_letter_for_digit(text) {
        return None;
    }
    if !shape.has_letters {
        let whole = plain::read(text, region);
        if text.ends_with([')', ']']) {
            return remarks::cut_bracket(text, region, whole.as_ref()).or(whole);
        }
        return whole;
    }
    let spoken = plain::read_foreign_extension(text, region);
    if spoken.as_ref().is_some_and(NumberCandidate::is_valid) || extension::would_be_glued(text) {
        return spoken;
    }
    let whole = plain::read(text, region).or(spoken);
    if whole.as_ref().is_some_and(NumberCandidate::has_extension) || has_own_parameters(text) {
        return whole;
    }
    remarks::cut(text, region, whole.as_ref()).or(whole)
}

/// Parameters of RFC 3966 that the library reads.
pub(crate) fn has_own_parameters(text: &str) -> bool {
    text.contains(';') && [";phone-context=", ";ext=", ";isub="].iter().any(|parameter| text.contains(parameter))
}
