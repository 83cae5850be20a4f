//! Who appears in the story, and how their numbers are written in Zendesk.
//! Numbers: one that everybody knows, and numbers kept for fiction (NANP 555-01XX) in area codes that the generated people do
//! not use, so that nobody else answers to them.

use serde_json::json;

use crate::simulator::zendesk::{Refusal, Zendesk};

/// Somebody with a number.
#[derive(Clone, Copy)]
pub(super) struct Person {
    /// As in the CRM.
    pub(super) name: &'static str,
    /// As somebody typed it into the CRM.
    pub(super) typed: &'static str,
    /// As the carrier gives it.
    pub(super) dialled: &'static str,
}

const fn person(name: &'static str, typed: &'static str, dialled: &'static str) -> Person {
    Person { name, typed, dialled }
}

/// The caller of the first promise.
pub(super) const BRYCE: Person = person("Bryce Love", "(310)-867-5309", "+1 310 867 5309");
/// On a line with Daniel.
pub(super) const MARIA: Person = person("Maria Ortiz", "415.555.0142", "+1 415 555 0142");
/// On a line with Maria.
pub(super) const DANIEL: Person = person("Daniel Ortiz", "+1 (415) 555-0142", "+1 415 555 0142");
/// Calls before Zendesk knows her.
pub(super) const PRIYA: Person = person("Priya Raman", "617-555-0173", "+1 617 555 0173");
/// Is merged into Jonathan.
pub(super) const JON: Person = person("Jon Smith", "503 555 0118", "+1 503 555 0118");
/// Survives the merge.
pub(super) const JONATHAN: Person = person("Jonathan Smith", "(503) 555-0119", "+1 503 555 0119");
/// Is deleted.
pub(super) const TESS: Person = person("Tess Vale", "1-702-555-0166", "+1 702 555 0166");
/// A Salesforce Contact that was never synced.
pub(super) const HANA: Person = person("Hana Sato", "(808) 555-0121", "+1 808 555 0121");
/// Comes to Zendesk while sync is off.
pub(super) const NOAH: Person = person("Noah Lind", "971 555 0187", "+1 971 555 0187");

/// Hana's record, of 18 characters.
pub(super) const HANA_RECORD: &str = "0035g00000LxQ2aAAF";
/// The Salesforce organisation.
pub(super) const SALESFORCE_ORG: &str = "00D5g000004XyzA";
/// The Zendesk subdomain.
pub(super) const ZENDESK: &str = "demo";

/// Zendesk's ids of those whom the story asks for.
pub(super) struct Cast {
    pub(super) bryce: i64,
    pub(super) daniel: i64,
    pub(super) jon: i64,
    pub(super) jonathan: i64,
    pub(super) tess: i64,
}

impl Cast {
    /// Brings everyone into Zendesk who is there from the start.
    pub(super) fn enter(zendesk: &Zendesk) -> Result<Self, Refusal> {
        let bryce = create(zendesk, BRYCE)?;
        create(zendesk, MARIA)?;
        Ok(Self {
            bryce,
            daniel: create(zendesk, DANIEL)?,
            jon: create(zendesk, JON)?,
            jonathan: create(zendesk, JONATHAN)?,
            tess: create(zendesk, TESS)?,
        })
    }
}

/// Makes this person a user in Zendesk; its id.
pub(super) fn create(zendesk: &Zendesk, person: Person) -> Result<i64, Refusal> {
    zendesk.create_user(&json!({"name": person.name, "phone": person.typed}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        integration::Provider,
        phone::{self, Region},
        record::RecordKey,
    };

    #[test]
    fn everyone_is_called_by_the_number_that_is_typed() {
        let us = Region::parse("US").unwrap();
        let key = |text| phone::read(text, Some(us)).first().unwrap().key;

        for person in [BRYCE, MARIA, DANIEL, PRIYA, JON, JONATHAN, TESS, HANA, NOAH] {
            assert_eq!(key(person.typed), key(person.dialled), "{}", person.name);
        }
    }

    #[test]
    fn the_salesforce_record_is_written_in_its_long_form() {
        let key = RecordKey::parse(Provider::Salesforce, "Contact", &HANA_RECORD[..15]).unwrap();

        assert_eq!(key.record_id, HANA_RECORD);
    }
}
