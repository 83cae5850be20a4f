//! Whether credentials open an organisation, and show what is to be copied of it. Stores nothing.

use super::{context::IntegrationContext, error::IntegrationError};
use crate::{
    crm::{ClientTarget, ConnectionProbe, CrmError},
    domain::{
        credentials::{Credentials, CrmAccess},
        ids::{AccountId, IntegrationId},
        integration::Organization,
        options::{Options, PushWish},
    },
    store::integrations::SealedCredentials,
};

/// Credentials that open an organisation.
pub(super) struct VerifiedCredentials {
    /// As it is called now.
    pub organization: Organization,
    pub probe: ConnectionProbe,
    /// As they are now.
    pub credentials: Credentials,
    /// What was got by them; `None`: they are used as they are.
    pub access: Option<CrmAccess>,
}

/// What is to be stored of credentials, tried or not.
#[derive(Clone, Default)]
pub(super) struct TestedCredentials {
    /// As they are after the try.
    pub credentials: Option<Credentials>,
    /// Access that was got by them.
    pub access: Option<CrmAccess>,
    /// The name that the organisation has now, if that is another.
    pub organization_name: Option<String>,
    /// The CRM's own number of it.
    pub company_id: Option<String>,
}

impl TestedCredentials {
    /// As they are stored for one integration.
    pub(super) fn seal(
        &self,
        context: &IntegrationContext,
        account_id: AccountId,
        integration_id: IntegrationId,
    ) -> Result<SealedCredentials, IntegrationError> {
        let vault = &context.vault;
        let seal = |credentials: &Credentials| vault.seal(account_id, integration_id, credentials);
        let seal_access = |access: &CrmAccess| vault.seal_access(account_id, integration_id, access);
        Ok(SealedCredentials {
            credentials: self.credentials.as_ref().map(seal).transpose()?,
            access: self.access.as_ref().map(seal_access).transpose()?,
        })
    }
}

/// Tries a connection; stores nothing.
pub async fn test_connection(
    context: &IntegrationContext,
    organization: &Organization,
    credentials: Credentials,
) -> Result<ConnectionProbe, IntegrationError> {
    Ok(verify(context, organization, None, &Options::default(), credentials).await?.probe)
}

/// Gets access by credentials and looks whether it opens this organisation, which is known by the
/// CRM's own number, too, if that was learned before: then also under another name. What comes back
/// is what must be stored: a refresh token may have been used up by this.
pub(super) async fn verify(
    context: &IntegrationContext,
    organization: &Organization,
    company_id: Option<String>,
    options: &Options,
    credentials: Credentials,
) -> Result<VerifiedCredentials, IntegrationError> {
    let mut granted =
        context.crms.obtain(organization, &credentials, context.clock.now(), options.push != PushWish::Off).await?;
    if let Some(opened) = granted.organization.take_if(|opened| *opened != organization.name) {
        return Err(CrmError::OtherOrganization(Some(opened)).into());
    }
    granted.access.company_id = company_id;
    let (organization, probe) = probe_wherever(context, organization.clone(), options, &granted.access).await?;
    let access = credentials.are_renewable().then_some(granted.access);
    Ok(VerifiedCredentials { organization, probe, credentials: granted.credentials.unwrap_or(credentials), access })
}

/// As [`probe`], and under the name that the organisation has now.
async fn probe_wherever(
    context: &IntegrationContext,
    mut organization: Organization,
    options: &Options,
    access: &CrmAccess,
) -> Result<(Organization, ConnectionProbe), CrmError> {
    let renamed = match probe(context, &organization, options, access.clone()).await {
        Ok(probe) => return Ok((organization, probe)),
        Err(CrmError::Renamed(name)) => name,
        Err(error @ (CrmError::HostMoved | CrmError::NoConnection { .. } | CrmError::OrganizationNotFound)) => {
            context.crms.find_renamed(&organization, access).await.ok().flatten().ok_or(error)?
        }
        Err(error) => return Err(error),
    };
    organization.name = renamed;
    let probe = probe(context, &organization, options, access.clone()).await?;
    Ok((organization, probe))
}

/// Whether it opens this organisation, and shows what is to be copied of it.
pub(super) async fn probe(
    context: &IntegrationContext,
    organization: &Organization,
    options: &Options,
    access: CrmAccess,
) -> Result<ConnectionProbe, CrmError> {
    let options = options.clone();
    let target = ClientTarget { is_trial: true, is_first_copy: false, is_beside: false, organization, options, access };
    context.crms.client(target)?.probe().await
}
