//! The vendors, one line for each. What is known of one stands in its folder and nowhere else: its
//! descriptor, its form of OAuth, and how its client is made. What a new one needs elsewhere is
//! `PLACES` in `tests/architecture/vendors.rs`.

use super::vendor::CrmVendor;
use crate::domain::{
    descriptor::Descriptors,
    provider::{PerProvider, Provider},
};

/// The vendor of a CRM.
pub(super) const fn vendor(provider: Provider) -> &'static dyn CrmVendor {
    match provider {
        Provider::Zendesk => &super::zendesk::ZendeskVendor,
        Provider::Salesforce => &super::salesforce::SalesforceVendor,
        Provider::Pipedrive => &super::pipedrive::PipedriveVendor,
    }
}

/// What is known of every CRM without asking it.
pub fn descriptors() -> Descriptors {
    PerProvider::from_fn(|provider| vendor(provider).descriptor())
}

#[cfg(test)]
mod tests;
