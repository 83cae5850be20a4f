//! Who appears in the story, and how their numbers are written in the CRMs. Numbers: one that
//! everybody knows, and numbers kept for fiction (NANP 555-01XX) in area codes that the generated
//! people do not use, so that nobody else answers to them.

use anyhow::Context as _;
use crm_simulator::{pipedrive::Pipedrive, salesforce::Salesforce, zendesk::Zendesk};
use serde_json::{Value, json};

/// Somebody with a number.
#[derive(Clone, Copy)]
pub(super) struct DemoPerson {
    /// As in the CRM: a first and a last name.
    pub(super) name: &'static str,
    /// As somebody typed it into the CRM.
    pub(super) typed: &'static str,
    /// As the carrier gives it.
    pub(super) dialled: &'static str,
}

const fn person(name: &'static str, typed: &'static str, dialled: &'static str) -> DemoPerson {
    DemoPerson { name, typed, dialled }
}

/// The caller of the first promise; in Zendesk and in Salesforce.
pub(super) const BRYCE: DemoPerson = person("Bryce Love", "(310)-867-5309", "+1 310 867 5309");
/// On a line with Daniel.
pub(super) const MARIA: DemoPerson = person("Maria Ortiz", "415.555.0142", "+1 415 555 0142");
/// On a line with Maria.
pub(super) const DANIEL: DemoPerson = person("Daniel Ortiz", "+1 (415) 555-0142", "+1 415 555 0142");
/// Calls before Zendesk knows her.
pub(super) const PRIYA: DemoPerson = person("Priya Raman", "617-555-0173", "+1 617 555 0173");
/// Is merged into Jonathan, in Zendesk.
pub(super) const JON: DemoPerson = person("Jon Smith", "503 555 0118", "+1 503 555 0118");
/// Survives the merge.
pub(super) const JONATHAN: DemoPerson = person("Jonathan Smith", "(503) 555-0119", "+1 503 555 0119");
/// Is deleted in Zendesk.
pub(super) const TESS: DemoPerson = person("Tess Vale", "1-702-555-0166", "+1 702 555 0166");
/// A Salesforce Contact that is clicked before any sync.
pub(super) const HANA: DemoPerson = person("Hana Sato", "(808) 555-0121", "+1 808 555 0121");
/// A Salesforce Lead that is clicked before a sync brings it, and then converted.
pub(super) const ROSA: DemoPerson = person("Rosa Diaz", "(720) 555-0134", "+1 720 555 0134");
/// Is merged into Alan, in Salesforce.
pub(super) const AL: DemoPerson = person("Al Reed", "512 555 0151", "+1 512 555 0151");
/// Survives the merge.
pub(super) const ALAN: DemoPerson = person("Alan Reed", "(512) 555-0152", "+1 512 555 0152");
/// In Pipedrive, until she is deleted.
pub(super) const LENA: DemoPerson = person("Lena Vogt", "907.555.0109", "+1 907 555 0109");
/// Comes to Salesforce after its first copy, and leaves.
pub(super) const IVO: DemoPerson = person("Ivo Marek", "(818) 555-0133", "+1 818 555 0133");
/// Comes to Salesforce, which says nothing of it.
pub(super) const NORA: DemoPerson = person("Nora Quist", "(206) 555-0171", "+1 206 555 0171");
/// Comes to Pipedrive after its first copy, twice.
pub(super) const NILS: DemoPerson = person("Nils Berg", "503.555.0164", "+1 503 555 0164");
/// Once more the same.
pub(super) const NILS_AGAIN: DemoPerson = person("N. Berg", "503.555.0165", "+1 503 555 0165");
/// Comes to Zendesk while sync is off.
pub(super) const NOAH: DemoPerson = person("Noah Lind", "971 555 0187", "+1 971 555 0187");

/// Calls, and is asked about, before Zendesk knows him.
pub(super) const OMAR: DemoPerson = person("Omar Haddad", "(541) 555-0147", "+1 541 555 0147");

/// The Zendesk subdomain.
pub(super) const ZENDESK: &str = "demo";

/// The CRMs' ids of those whom the story asks for.
pub(super) struct DemoPeople {
    pub(super) bryce: i64,
    pub(super) bryce_in_salesforce: String,
    pub(super) daniel: i64,
    pub(super) jon: i64,
    pub(super) jonathan: i64,
    pub(super) tess: i64,
    pub(super) hana: String,
    pub(super) al: String,
    pub(super) alan: String,
    pub(super) lena: i64,
}

/// Brings everyone into the CRMs who is there from the start.
pub(super) fn seed(zendesk: &Zendesk, salesforce: &Salesforce, pipedrive: &Pipedrive) -> anyhow::Result<DemoPeople> {
    let bryce = user(zendesk, BRYCE)?;
    user(zendesk, MARIA)?;
    Ok(DemoPeople {
        bryce,
        bryce_in_salesforce: contact(salesforce, BRYCE)?,
        daniel: user(zendesk, DANIEL)?,
        jon: user(zendesk, JON)?,
        jonathan: user(zendesk, JONATHAN)?,
        tess: user(zendesk, TESS)?,
        hana: contact(salesforce, HANA)?,
        al: contact(salesforce, AL)?,
        alan: contact(salesforce, ALAN)?,
        lena: pipedrive_person(pipedrive, LENA)?,
    })
}

/// Makes this person a user in Zendesk; the id.
pub(super) fn user(zendesk: &Zendesk, person: DemoPerson) -> anyhow::Result<i64> {
    zendesk.create_user(&json!({"name": person.name, "phone": person.typed})).context("Zendesk refuses a user")
}

/// Makes this person one of Pipedrive's; the id.
pub(super) fn pipedrive_person(pipedrive: &Pipedrive, person: DemoPerson) -> anyhow::Result<i64> {
    let fields = json!({"name": person.name, "phones": [{"value": person.typed, "primary": true}]});
    pipedrive.create_person(&fields).context("Pipedrive refuses a person")
}

/// Makes this person a Contact in Salesforce; the id.
pub(super) fn contact(salesforce: &Salesforce, person: DemoPerson) -> anyhow::Result<String> {
    salesforce.create("Contact", &fields(person)).context("Salesforce refuses a Contact")
}

/// Makes this person a Lead in Salesforce; the id.
pub(super) fn lead(salesforce: &Salesforce, person: DemoPerson) -> anyhow::Result<String> {
    let mut fields = fields(person);
    fields["Company"] = json!("Diaz & Daughters");
    salesforce.create("Lead", &fields).context("Salesforce refuses a Lead")
}

fn fields(person: DemoPerson) -> Value {
    let (first, last) = person.name.split_once(' ').unwrap_or(("", person.name));
    json!({"FirstName": first, "LastName": last, "Phone": person.typed})
}

#[cfg(test)]
mod tests {
    use super::*;
    use phone_key::Region;

    /// Everyone is called by the number that is typed.
    #[test]
    fn typed_number_reaches_everyone_in_cast() {
        let us = Region::parse("US").unwrap();
        let key = |text| phone_key::read(text, Some(us)).first().unwrap().key;

        for person in [
            BRYCE, MARIA, DANIEL, PRIYA, JON, JONATHAN, TESS, HANA, ROSA, AL, ALAN, LENA, NOAH, IVO, NORA, NILS,
            NILS_AGAIN,
        ] {
            assert_eq!(key(person.typed), key(person.dialled), "{}", person.name);
        }
    }
}
