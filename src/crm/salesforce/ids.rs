//! Salesforce's ids, which come in two forms: 15 characters that tell capital letters apart, and 18
//! with a checksum. The longer one is kept, so that both are one record. Source: Salesforce,
//! "18-digit ids".

use crate::domain::{integration::InvalidOrganization, record::InvalidRecordKey};

/// The id of a record of this kind, whose ids begin so.
pub(super) fn record_id(kind: &str, prefix: &str, text: &str) -> Result<String, InvalidRecordKey> {
    let wrong = |reason: &str| Err(InvalidRecordKey::RecordId(reason.to_owned()));
    if !matches!(text.len(), 15 | 18) || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return wrong("must be a Salesforce id of 15 or 18 letters and digits");
    }
    let full = with_checksum(&text[..15]);
    if text.len() == 18 && !full.eq_ignore_ascii_case(text) {
        return wrong("is not a Salesforce id: its last three characters do not fit the first fifteen");
    }
    if !full.starts_with(prefix) {
        return Err(InvalidRecordKey::RecordId(format!("the id of a {kind} begins with {prefix}")));
    }
    Ok(full)
}

/// The id of an organisation.
pub(super) fn organization_id(text: &str) -> Result<String, InvalidOrganization> {
    let fits =
        matches!(text.len(), 15 | 18) && text.starts_with("00D") && text.bytes().all(|b| b.is_ascii_alphanumeric());
    if !fits {
        let words = "must be the organisation id of 15 or 18 characters that begins with 00D";
        return Err(InvalidOrganization::must_be(words));
    }
    Ok(with_checksum(&text[..15]))
}

/// Adds the checksum: per five characters, a bit for each capital letter, written as one of A-Z0-5.
fn with_checksum(id_15: &str) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345";
    let checksum = id_15.as_bytes().chunks(5).map(|chunk| {
        let capitals = chunk.iter().enumerate().filter(|(_, b)| b.is_ascii_uppercase());
        char::from(ALPHABET[capitals.fold(0, |bits, (place, _)| bits | 1 << place)])
    });
    id_15.chars().chain(checksum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_salesforce_id_are_one_record() {
        let of_contact = |text| record_id("Contact", "003", text).unwrap();

        let long = of_contact("003D000000QV9n2IAD");
        assert_eq!(long, "003D000000QV9n2IAD");
        assert_eq!((of_contact("003D000000QV9n2"), of_contact("003D000000QV9n2iad")), (long.clone(), long));
    }

    #[test]
    fn both_forms_of_a_salesforce_organization_are_one() {
        assert_eq!(organization_id("00Dx0000000BV7z"), organization_id("00Dx0000000BV7zEAO"));
        assert!(organization_id("003x0000000BV7z").is_err() && organization_id("00Dx").is_err());
    }
}
