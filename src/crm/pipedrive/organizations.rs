//! Names of the organizations that persons work for: version 2 gives a person the id only. Each name costs a tenth of a list once in
//! a run; a rename alone does not change a person, and is seen with the person's next change or the next full read.

use std::{collections::HashMap, sync::atomic::Ordering};

use serde_json::value::RawValue;

use super::{
    client::Pipedrive,
    map,
    model::{Organization, Rows},
};
use crate::{crm::CrmError, domain::record::Record};

/// Names that are remembered for a run.
pub(super) const NAMES_MAX: u64 = 50_000;
/// In one request.
const IDS_MAX: usize = 100;

const HIDDEN: &str = "ORGANIZATIONS_HIDDEN: the token may not read organizations: persons are copied without the name of theirs; give it the scope contacts:read, or bring an administrator's token";

impl Pipedrive {
    /// The rows as records, as many as can be understood.
    pub(super) async fn records(
        &self,
        rows: &[Box<RawValue>],
        notices: &mut Vec<String>,
    ) -> Result<Vec<Record>, CrmError> {
        let persons = map::persons(rows);
        let names = self.names_of(&map::organization_ids(&persons), notices).await?;
        Ok(persons.into_iter().filter_map(|person| map::record(person, &self.base_url, &names)).collect())
    }

    async fn names_of(&self, ids: &[u64], notices: &mut Vec<String>) -> Result<HashMap<u64, String>, CrmError> {
        let mut names: HashMap<u64, String> =
            ids.iter().filter_map(|id| Some((*id, self.organization_names.get(id)?))).collect();
        let unknown: Vec<u64> = ids.iter().copied().filter(|id| !names.contains_key(id)).collect();
        for some in unknown.chunks(IDS_MAX) {
            if self.organizations_are_hidden.load(Ordering::Relaxed) {
                break;
            }
            match self.list_organizations(some).await {
                Ok(found) => {
                    // One that is not shown is not asked for again.
                    for id in some {
                        let name = found.get(id).cloned().unwrap_or_default();
                        self.organization_names.insert(*id, name.clone());
                        names.insert(*id, name);
                    }
                }
                // Anything else passes, and would blank the names until then: the page is read again.
                Err(CrmError::PermissionMissing(_)) => {
                    self.organizations_are_hidden.store(true, Ordering::Relaxed);
                    notices.push(HIDDEN.to_owned());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(names)
    }

    async fn list_organizations(&self, ids: &[u64]) -> Result<HashMap<u64, String>, CrmError> {
        let ids: Vec<String> = ids.iter().map(u64::to_string).collect();
        let query = [("ids", ids.join(",")), ("limit", IDS_MAX.to_string())];
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let (page, _) = self.get::<Rows>("/api/v2/organizations", &query).await?;
        let read = page.data.iter().filter_map(|row| serde_json::from_str::<Organization>(row.get()).ok());
        Ok(read.map(|organization| (organization.id, organization.name.unwrap_or_default())).collect())
    }
}
