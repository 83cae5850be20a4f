//! Salesforce. Vendor words end here: outside, its objects are records.

use std::sync::Arc;

use super::{Answer, CrmClient, CrmError, Page, Probe, Sighting, Target, http::Endpoint, quota::Quota};
use crate::domain::record::RecordKey;

pub(super) struct Salesforce;

impl Salesforce {
    pub(super) fn new(
        _http: reqwest::Client,
        _endpoint: &Endpoint,
        _target: Target<'_>,
        _quota: Arc<Quota>,
        _bulk_above: i64,
    ) -> Result<Self, CrmError> {
        Ok(Self)
    }
}

impl CrmClient for Salesforce {
    fn probe(&self) -> Answer<'_, Probe> {
        unimplemented!()
    }
    fn count(&self) -> Answer<'_, Option<i64>> {
        unimplemented!()
    }
    fn fetch_page<'a>(&'a self, _position: Option<&'a str>) -> Answer<'a, Page> {
        unimplemented!()
    }
    fn look_up<'a>(&'a self, _keys: &'a [RecordKey]) -> Answer<'a, Vec<Sighting>> {
        unimplemented!()
    }
}
