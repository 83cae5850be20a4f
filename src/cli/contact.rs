//! `contact-sync contact`: one contact, or everyone on a number.

use std::{fmt, process::ExitCode};

use phone_key::Region;

use super::client::{
    AccountOption, ClientOptions, ServiceClient, json,
    show::{self, LabelledLines},
};
use crate::{domain::ids::ContactId, rpc::pb};

/// Most contacts of a number that are shown.
const CONTACTS_MAX: i32 = 200;

/// Show a contact, also a deleted one, or everyone on a number
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ContactArgs {
    /// The contact
    #[arg(value_name = "CONTACT_ID", required_unless_present = "number", conflicts_with = "number")]
    contact: Option<ContactId>,
    #[command(flatten)]
    account: AccountOption,
    /// Everyone with this number, the default of a call first
    #[arg(long, value_name = "NUMBER")]
    number: Option<String>,
    /// Country of a number without one [default: the account's]
    #[arg(long, value_name = "COUNTRY", requires = "number")]
    region: Option<Region>,
    #[command(flatten)]
    pub(super) client: ClientOptions,
}

/// Asks the server, and prints its answer.
pub(super) async fn run(args: ContactArgs, client: &ServiceClient) -> anyhow::Result<ExitCode> {
    let account_id = args.account.id.to_string();
    if let Some(contact) = args.contact {
        let request = pb::GetContactRequest { account_id, contact_id: contact.to_string() };
        let answer = client.contacts().get_contact(request).await?.into_inner();
        let mut lines = LabelledLines::default();
        if let Some(contact) = &answer.contact {
            show::contact(&mut lines, contact);
        }
        client.print(&json::of(&answer), lines)?;
        return Ok(ExitCode::SUCCESS);
    }
    let request = pb::ListContactsRequest {
        account_id,
        phone_number: args.number.unwrap_or_default(),
        page_size: CONTACTS_MAX,
        page_token: String::new(),
        default_region: args.region.map(|region| region.as_str().to_owned()).unwrap_or_default(),
    };
    let page = client.contacts().list_contacts(request).await?.into_inner();
    let has_more = !page.next_page_token.is_empty();
    client.print(&json::of(&page), ContactPage { contacts: &page.contacts, has_more })?;
    Ok(ExitCode::SUCCESS)
}

/// Contacts with an empty line between them.
struct ContactPage<'a> {
    contacts: &'a [pb::Contact],
    has_more: bool,
}

impl fmt::Display for ContactPage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.contacts.is_empty() {
            return f.write_str("No contact has this number.");
        }
        for (at, contact) in self.contacts.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            let mut lines = LabelledLines::default();
            show::contact(&mut lines, contact);
            write!(f, "{lines}")?;
        }
        if self.has_more {
            writeln!(f, "\nThere are more; these are the first {}.", self.contacts.len())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contacts_are_apart_and_more_is_said() {
        let contact = |name: &str| pb::Contact { display_name: name.into(), ..Default::default() };
        let contacts = [contact("Ann"), contact("Ben")];

        let text = ContactPage { contacts: &contacts, has_more: true }.to_string();

        assert_eq!(text, "name  Ann\n\nname  Ben\n\nThere are more; these are the first 2.\n");
        assert!(ContactPage { contacts: &[], has_more: false }.to_string().starts_with("No contact"));
    }
}
