//! What a sync may ask of Salesforce.

use std::sync::Arc;

use phone_key::PhoneKey;
use tokio::sync::OnceCell;

use super::{
    descriptor::DESCRIPTOR,
    fields::UntrackedFields,
    header,
    pubsub::channel::{StreamAccess, StreamEndpoint, StreamHeaders},
    refusal::{ErrorCode, HIDDEN, RequestFailure},
    rest::RestApi,
};
use crate::{
    crm::{
        ChangeStream, ConnectionProbe, CrmClient, CrmError, CrmFuture, FoundRecords, NumberMatches, PageEffort,
        PageSize, RecordPage, RecordSightings, StreamFuture, StreamRequest, vendor::ClientParts,
    },
    domain::{
        options::Options,
        provider::Provider,
        record::{ObjectType, RecordKey},
    },
};

/// An id of an organisation without its checksum.
const ID_CHARS: usize = 15;

/// One organisation's Salesforce.
pub(super) struct SalesforceClient {
    pub(super) rest: RestApi,
    organization: String,
    pub(super) options: Options,
    pub(super) bulk_above: i64,
    pub(super) streams: StreamAccess,
    contacts: ObjectCache,
    leads: ObjectCache,
}

/// What is asked once of an object, for look-ups and streams.
#[derive(Default)]
pub(super) struct ObjectCache {
    pub(super) fields: OnceCell<Option<Vec<String>>>,
    pub(super) sees_all: OnceCell<bool>,
    pub(super) untracked: OnceCell<Arc<UntrackedFields>>,
}

impl SalesforceClient {
    /// The Salesforce at the host that the vendor named with the access, or where the operator
    /// points it. Objects with more than `bulk_above` records are read by the bulk interface when
    /// all of them are read.
    pub(super) fn new(parts: ClientParts<'_>) -> Result<Self, CrmError> {
        let ClientParts { http, endpoint, target, quota, bulk_above, streams } = parts;
        let named = target.access.api_url.as_deref();
        let base_url = endpoint.api_base(&DESCRIPTOR.hosts, &target.organization.name, named)?;
        let header = header::authorization(&target.access.token)?;
        let streams = StreamAccess {
            endpoint: StreamEndpoint::of(endpoint, streams),
            headers: StreamHeaders::new(&target.access.token, &base_url, &target.organization.name),
        };
        Ok(Self {
            streams,
            rest: RestApi { http, base_url, header, quota },
            organization: target.organization.name.clone(),
            options: target.options,
            bulk_above,
            contacts: ObjectCache::default(),
            leads: ObjectCache::default(),
        })
    }

    pub(super) const fn cache(&self, object: ObjectType) -> &ObjectCache {
        if matches!(object, ObjectType::Lead) { &self.leads } else { &self.contacts }
    }

    async fn check(&self) -> Result<ConnectionProbe, CrmError> {
        self.user_id().await?;
        // An organisation may have no Leads; a run says which kind it does not see.
        let mut sees_any = false;
        for object in self.options.copied(Provider::Salesforce) {
            match self.describe(object).await {
                Ok(described) => sees_any |= described.is_some(),
                Err(RequestFailure::Vendor(ErrorCode::InvalidType | ErrorCode::NotFound, _)) => {}
                Err(failure) => return Err(failure.into()),
            }
        }
        if !sees_any {
            return Err(HIDDEN);
        }
        Ok(ConnectionProbe { estimated_contacts: self.count_all().await?, company_id: None, text_fields: Vec::new() })
    }

    /// The user of the token, if it is of this organisation.
    pub(super) async fn user_id(&self) -> Result<String, CrmError> {
        let identity = self.rest.identity().await?;
        let is_ours = identity.organization_id.get(..ID_CHARS) == self.organization.get(..ID_CHARS);
        if is_ours { Ok(identity.user_id) } else { Err(identity.of_another()) }
    }

    /// Of all objects that are copied and seen; `None`: there are so many that Salesforce does not
    /// come to an end.
    async fn count_all(&self) -> Result<Option<i64>, CrmError> {
        let mut total = 0;
        for object in self.options.copied(Provider::Salesforce) {
            total += match self.count_of(object).await {
                Err(RequestFailure::Vendor(ErrorCode::InvalidType, _)) => 0,
                Err(RequestFailure::Vendor(ErrorCode::QueryTimeout, _)) => return Ok(None),
                count => count?,
            };
        }
        Ok(Some(total))
    }
}

impl CrmClient for SalesforceClient {
    fn identify(&self) -> CrmFuture<'_, ()> {
        Box::pin(async { self.user_id().await.map(drop) })
    }

    fn probe(&self) -> CrmFuture<'_, ConnectionProbe> {
        Box::pin(self.check())
    }

    fn count(&self) -> CrmFuture<'_, Option<i64>> {
        Box::pin(self.count_all())
    }

    fn fetch_page<'a>(&'a self, position: Option<&'a str>, effort: PageEffort) -> CrmFuture<'a, RecordPage> {
        Box::pin(self.page_at(position, effort))
    }

    fn has_optional_parts(&self) -> bool {
        true
    }

    fn page_size(&self) -> &PageSize {
        self.rest.quota.page_size()
    }

    fn left_at(&self, position: &str) -> Vec<ObjectType> {
        Self::left_at(position)
    }

    fn look_up<'a>(&'a self, keys: &'a [RecordKey]) -> CrmFuture<'a, RecordSightings> {
        Box::pin(self.sightings(keys))
    }

    fn fetch_newest<'a>(&'a self, checkpoint: &'a str) -> CrmFuture<'a, FoundRecords> {
        Box::pin(self.newest(checkpoint))
    }

    fn find_by_number(&self, key: PhoneKey) -> CrmFuture<'_, NumberMatches> {
        Box::pin(async move { Ok(NumberMatches { named: self.search(key).await?, ..NumberMatches::default() }) })
    }

    fn check_stream<'a>(&'a self, request: &'a StreamRequest) -> StreamFuture<'a, ()> {
        Box::pin(self.may_follow(request))
    }

    fn follow(&self, request: StreamRequest) -> ChangeStream {
        self.changes(request)
    }
}
