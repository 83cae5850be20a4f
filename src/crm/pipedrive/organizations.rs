//! Names of the organizations that persons work for: version 2 gives a person the id only. Each
//! name costs a tenth of a list once in a run; a rename alone does not change a person, and is seen
//! with the person's next change or the next full read.

use std::{collections::HashMap, sync::atomic::Ordering};

use super::{
    client::PipedriveClient,
    map::{self, NO_PAGE, PersonRow},
    model::PAGE,
};
use crate::{
    crm::{
        CrmError, PageEffort,
        json::{self, BodyText, JsonFields},
    },
    domain::{notice::Notice, record::Record},
};

/// In one request.
const IDS_MAX: usize = 100;

const HIDDEN: Notice = Notice::fixed(
    "ORGANIZATIONS_HIDDEN",
    "the token may not read organizations: persons are copied without the name of theirs; give it the scope contacts:read, or bring an administrator's token",
);

const LEFT: Notice = Notice::fixed(
    "ORGANIZATIONS_LEFT",
    "Pipedrive did not give the names of some organizations: their persons are copied without them; the next full read brings them",
);

/// What went wrong on the way to records, and cost none of them.
#[derive(Default)]
pub(super) struct LeftOut {
    /// For whoever looks after the integration.
    pub notices: Vec<Notice>,
    /// Names are to be had later.
    pub is_partial: bool,
}

impl PipedriveClient {
    /// The persons as records, with the names of their organizations.
    pub(super) async fn records(
        &self,
        persons: Vec<PersonRow>,
        effort: PageEffort,
        left_out: &mut LeftOut,
    ) -> Result<Vec<Record>, CrmError> {
        let names = self.names_of(&map::organization_ids(&persons), effort, left_out).await?;
        Ok(persons.into_iter().map(|person| map::record(person, &self.base_url, &names)).collect())
    }

    async fn names_of(
        &self,
        ids: &[u64],
        effort: PageEffort,
        left_out: &mut LeftOut,
    ) -> Result<HashMap<u64, String>, CrmError> {
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
                Err(CrmError::PermissionMissing(_)) => {
                    self.organizations_are_hidden.store(true, Ordering::Relaxed);
                    left_out.notices.push(HIDDEN);
                }
                // Most things pass, and would blank the names until then: only at last are they
                // left.
                Err(error) if effort == PageEffort::Essential && error.is_local() => {
                    left_out.is_partial = true;
                    left_out.notices.push(LEFT);
                    break;
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
        let (body, _) = self.get_text("/api/v2/organizations", &query).await?;
        json::off_thread(move || names(&body)).await
    }
}

/// Ids and names. An organization that cannot be read costs its name.
fn names(body: &BodyText) -> Result<HashMap<u64, String>, CrmError> {
    let page = body.value().and_then(|page| JsonFields::of(page, &PAGE)).ok_or(NO_PAGE)?;
    let mut names = HashMap::new();
    let is_whole = json::each(page.list("data").ok_or(NO_PAGE)?, IDS_MAX, |row| {
        let read = JsonFields::of(row, &["id", "name"]);
        let pair = read.and_then(|row| Some((row.cell("id").id()?, row.cell("name").text().ok().flatten())));
        names.extend(pair.map(|(id, name)| (id, name.unwrap_or_default())));
    });
    if is_whole { Ok(names) } else { Err(CrmError::Unreadable("it has more organizations than were asked for")) }
}
