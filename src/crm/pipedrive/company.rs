//! Which company an administrator has let this service into: Pipedrive's answer with tokens names
//! only its host.

use serde::Deserialize;

use super::{descriptor::DESCRIPTOR, header};
use crate::crm::{
    CrmError, http,
    vendor::{OpenedAccess, OpenedOrganization},
};
use crate::domain::provider::Provider;

#[derive(Deserialize)]
struct OpenedAnswer {
    data: OpenedCompany,
}

#[derive(Deserialize)]
struct OpenedCompany {
    company_domain: String,
    #[serde(default)]
    company_id: Option<u64>,
}

/// The company that a token belongs to, by its domain's label, and its number.
pub(super) async fn find_opened(opened: OpenedAccess<'_>) -> Result<OpenedOrganization, CrmError> {
    let api_url = opened.access.api_url.as_ref().ok_or(CrmError::Unreadable("it names no `api_domain`"))?;
    let request = opened.http.get(format!("{api_url}/api/v1/users/me"));
    let request = header::authorization(&opened.access.token)?.put_on(request);
    let response = http::counted(Provider::Pipedrive, request.send()).await?;
    let status = response.status();
    if let Some(error) = http::meaning_of_status(status, response.headers()) {
        return Err(error);
    }
    if !status.is_success() {
        return Err(CrmError::Refused(status.as_u16()));
    }
    let body = http::read_body_up_to(response, http::SMALL_BODY_BYTES_MAX).await?;
    let me: OpenedAnswer =
        serde_json::from_slice(&body).map_err(|_| CrmError::Unreadable("it does not name the company"))?;
    let company = DESCRIPTOR.parse_organization(&me.data.company_domain);
    let name = company.map_err(|_| CrmError::Unreadable("the company's name is no label of a host"))?.name;
    Ok(OpenedOrganization { name, company_id: me.data.company_id.map(|id| id.to_string()) })
}
