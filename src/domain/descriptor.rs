//! What is known of a CRM without asking it. Owns the form of that knowledge and nothing of its
//! content: a vendor's facts stand in its folder under `crm/`, and come to whoever needs them as a
//! value ([decision 21](../../docs/decisions/0021-one-trait-for-three-crms.md)).

use chrono::TimeDelta;

use super::{
    credentials::CredentialType,
    host::{HostRules, LoginHosts},
    integration::{InvalidOrganization, Organization},
    look_aside::AsideRules,
    options::Options,
    provider::{PerProvider, Provider},
    record::{InvalidRecordKey, ObjectType, RecordKey},
};

/// What is known of every CRM.
pub type Descriptors = PerProvider<&'static ProviderDescriptor>;

/// What is known of a CRM without asking it.
#[derive(Debug)]
pub struct ProviderDescriptor {
    /// Which.
    pub provider: Provider,
    /// The kinds of its objects that stand for a person, in the order of [`ObjectType`].
    pub objects: &'static [ObjectDescriptor],
    /// Says of an object that people name and that is none of those why it is none, if that is
    /// worth more than the list of those that are.
    pub explain_object: fn(&str) -> Option<&'static str>,
    /// How an organisation is named.
    pub organization: OrganizationRule,
    /// Where its APIs are, and where tokens are given.
    pub hosts: HostRules,
    /// Where an administrator may say that people log in; `None`: everybody logs in at the vendor's
    /// one place.
    pub login_hosts: Option<LoginHosts>,
    /// A new token says where the API is now: after a host that does not answer any more, one is
    /// asked for.
    pub tokens_name_the_host: bool,
    /// The kinds of credentials that it takes.
    pub credentials: &'static [CredentialType],
    /// What to give instead of a kind that it does not take, such as "a `refresh_token`".
    pub credentials_hint: &'static str,
    /// What other options of an integration lead to.
    pub options: OptionRules,
    /// After a change, until a poll is sure to find it: what the CRM's lists of changes lag by, and
    /// a little.
    pub listing_lag: TimeDelta,
    /// How it is asked for a caller whom nobody here knows.
    pub look_aside: AsideRules,
    /// Settings, unless the operator has others.
    pub defaults: ProviderDefaults,
}

/// There is one for each CRM.
impl PartialEq for ProviderDescriptor {
    fn eq(&self, other: &Self) -> bool {
        self.provider == other.provider
    }
}

impl Eq for ProviderDescriptor {}

impl ProviderDescriptor {
    /// Checks an organisation's name as a tenant gives it, and gives it its one form.
    pub fn parse_organization(&self, text: &str) -> Result<Organization, InvalidOrganization> {
        Ok(Organization { provider: self.provider, name: (self.organization.parse)(text)? })
    }

    /// Reads a record's key as a client gives it.
    pub fn parse_record_key(&self, object_type: &str, record_id: &str) -> Result<RecordKey, InvalidRecordKey> {
        let of_its_name = |object: &&ObjectDescriptor| object.object_type.as_str() == object_type;
        let Some(object) = self.objects.iter().find(of_its_name) else {
            let explained = (self.explain_object)(object_type).map(str::to_owned);
            return Err(InvalidRecordKey::ObjectType(explained.unwrap_or_else(|| {
                let known: Vec<String> =
                    self.objects.iter().map(|object| format!("`{}`", object.object_type.as_str())).collect();
                format!("{} has no such object here; use {}", self.provider, known.join(" or "))
            })));
        };
        Ok(RecordKey { object_type: object.object_type, record_id: (object.parse_id)(record_id)? })
    }

    /// Whether other options copy more than those before: until that is copied, "nobody" does not
    /// mean nobody.
    pub fn is_widened(&self, now: &Options, before: &Options) -> bool {
        let (copied, copied_before) = (now.copied(self.provider), before.copied(self.provider));
        (self.options.widen)(now, before) || copied.iter().any(|kind| !copied_before.contains(kind))
    }

    /// Whether after a change of options everything must be looked at anew. A kind that is switched
    /// on needs no more than the next run, which has no place of it to go on from.
    pub fn needs_sweep(&self, now: &Options, before: &Options) -> bool {
        (self.options.need_sweep)(now, before)
    }
}

/// A kind of objects of a CRM that stands for a person.
#[derive(Debug)]
pub struct ObjectDescriptor {
    /// Which.
    pub object_type: ObjectType,
    /// Reads an id as people and programs write it, and gives its one form.
    pub parse_id: fn(&str) -> Result<String, InvalidRecordKey>,
}

/// How an organisation of a CRM is named.
#[derive(Debug)]
pub struct OrganizationRule {
    /// The field of a connection in the API that holds the name.
    pub field: &'static str,
    /// Reads the name as an administrator gives it. Never a URL: a tenant must not choose which
    /// host this service talks to.
    pub parse: fn(&str) -> Result<String, InvalidOrganization>,
    /// An administrator who is to authorize access is sent to the organisation's own page, so that
    /// its name is needed first.
    pub is_needed_to_authorize: bool,
}

/// What other options of an integration lead to, beside kinds that are switched on or off. Both
/// take the new options, and those before.
#[derive(Debug)]
pub struct OptionRules {
    /// Whether more is to be copied than before.
    pub widen: fn(&Options, &Options) -> bool,
    /// Whether everything must be looked at anew.
    pub need_sweep: fn(&Options, &Options) -> bool,
}

/// Settings of a CRM, unless the operator has others.
#[derive(Debug)]
pub struct ProviderDefaults {
    /// The share of the customer's request quota, 1 to 100 percent.
    pub quota_share_percent: u32,
    /// The same while everything is copied for the first time.
    pub first_copy_share_percent: u32,
    /// From sweep to sweep, hours.
    pub sweep_hours: u32,
    /// What tokens are asked for beside reading, so that changes can be pushed.
    pub push_scopes: &'static str,
}
