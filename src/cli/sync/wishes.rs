//! What an integration copies and mirrors, as options of the command line.

use clap::ValueEnum;

use super::connection::only;
use crate::{domain::provider::Provider, rpc::pb};

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

/// Which Zendesk users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CopiedUsers {
    All,
    EndUsers,
}

/// What is copied and mirrored; what is not said stays as it is, and is on at first.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct SyncOptionsArgs {
    /// Salesforce: copy Contacts
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    contacts: Option<Switch>,
    /// Salesforce: copy Leads
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    leads: Option<Switch>,
    /// Salesforce: a Contact deleted there is deleted here
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    mirror_contacts: Option<Switch>,
    /// Salesforce: a Lead deleted there is deleted here
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    mirror_leads: Option<Switch>,
    /// Pipedrive: a person deleted there is deleted here
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    mirror_persons: Option<Switch>,
    /// Zendesk: which users are copied
    #[arg(long, value_name = "all|end-users", hide_possible_values = true)]
    users: Option<CopiedUsers>,
    /// Zendesk: the key of a custom text field of users that holds phone numbers, all of them: a,b
    /// or the flag again for each
    #[arg(long = "phone-field", value_name = "KEY", value_delimiter = ',')]
    phone_fields: Option<Vec<String>>,
    /// Zendesk: no custom field holds phone numbers any more
    #[arg(long, conflicts_with = "phone_fields")]
    no_phone_fields: bool,
    /// Have the CRM push its changes: by a webhook that is made in it, or Salesforce's by a stream
    #[arg(long, value_name = "on|off", hide_possible_values = true)]
    push: Option<Switch>,
}

impl SyncOptionsArgs {
    /// Refuses what belongs to another CRM than this one.
    pub(super) fn refuse_others(&self, provider: Provider) -> anyhow::Result<()> {
        for (of, flag, is_given) in [
            (Provider::Salesforce, "--contacts", self.contacts.is_some()),
            (Provider::Salesforce, "--leads", self.leads.is_some()),
            (Provider::Salesforce, "--mirror-contacts", self.mirror_contacts.is_some()),
            (Provider::Salesforce, "--mirror-leads", self.mirror_leads.is_some()),
            (Provider::Pipedrive, "--mirror-persons", self.mirror_persons.is_some()),
            (Provider::Zendesk, "--users", self.users.is_some()),
            (Provider::Zendesk, "--phone-field", self.phone_fields.is_some()),
            (Provider::Zendesk, "--no-phone-fields", self.no_phone_fields),
        ] {
            only(of, provider, flag, is_given)?;
        }
        Ok(())
    }

    /// Adds what was said.
    pub(super) fn put_into(&self, options: &mut pb::IntegrationOptions) {
        let switch = |wish: Option<Switch>| match wish {
            None => pb::Switch::Unspecified,
            Some(Switch::On) => pb::Switch::On,
            Some(Switch::Off) => pb::Switch::Off,
        };
        let object = |copy: Option<Switch>, mirror_deletions: Option<Switch>| {
            let of = pb::ObjectOptions { copy: switch(copy).into(), mirror_deletions: switch(mirror_deletions).into() };
            (copy.is_some() || mirror_deletions.is_some()).then_some(of)
        };
        options.salesforce_contacts = object(self.contacts, self.mirror_contacts);
        options.salesforce_leads = object(self.leads, self.mirror_leads);
        options.pipedrive_persons = object(None, self.mirror_persons);
        options.zendesk_phone_fields = (self.phone_fields.is_some() || self.no_phone_fields)
            .then(|| pb::ZendeskPhoneFields { keys: self.phone_fields.clone().unwrap_or_default() });
        options.set_push(switch(self.push));
        options.set_zendesk_users(match self.users {
            None => pb::ZendeskUsers::Unspecified,
            Some(CopiedUsers::All) => pb::ZendeskUsers::All,
            Some(CopiedUsers::EndUsers) => pb::ZendeskUsers::EndUsers,
        });
    }
}
