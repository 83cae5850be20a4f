//! What must be known together with records that are gone: who lives on in their place.

use std::collections::HashSet;

use super::{apply::PageWriter, error::RunError, session::CrmSession};
use crate::{
    crm::{CrmClient, CrmFuture, GoneRecord, LOOK_UP_MAX, RecordPage},
    domain::{
        notice::Notice,
        record::{Record, RecordKey},
    },
    store::stored_records,
};

/// E-mail addresses of one gone record that are searched for.
const WINNER_SEARCHES_MAX: usize = 2;
/// Look-ups of a page that bring no answer, one after the other, before the others are left
/// unasked.
const UNANSWERED_MAX: usize = 3;

const LOOK_UPS_LEFT: Notice = Notice::fixed(
    "LOOK_UPS_LEFT",
    "the CRM did not answer when it was asked who lives on in the place of records that are gone (merged ones, perhaps): what those have taken over is copied with their next change, or with the next full read",
);

/// Adds what must be known together with a page: the records that its merged or converted ones
/// live on in, and whoever may have taken in those that have gone, where the CRM does not say
/// who that is.
pub(super) async fn add(
    session: &mut CrmSession<'_>,
    writer: PageWriter<'_>,
    page: &mut RecordPage,
    winnerless_max: usize,
) -> Result<(), RunError> {
    let gone: Vec<&Record> = page.records.iter().filter(|record| record.is_gone).collect();
    if gone.is_empty() {
        return Ok(());
    }
    let here: HashSet<&RecordKey> = page.records.iter().map(|record| &record.key).collect();
    let copied = writer.job.copied_types();
    let mut wanted: Vec<RecordKey> = gone
        .iter()
        .filter_map(|record| record.successor.clone())
        .filter(|key| copied.contains(&key.object_type) && !here.contains(key))
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    let winnerless: Vec<RecordKey> =
        gone.iter().filter(|record| record.successor.is_none()).map(|record| record.key.clone()).collect();
    let (db, lease) = (&writer.context.db, writer.job.lease());
    let wanted = stored_records::find_unknown(db, lease.account_id, lease.integration_id, &wanted).await?;
    let departing = stored_records::find_live_emails(db, lease.account_id, lease.integration_id, &winnerless).await?;
    let emails = departing.into_iter().take(winnerless_max).flat_map(|(key, emails)| {
        let one = move |email| GoneRecord { key: key.clone(), emails: vec![email] };
        emails.into_iter().take(WINNER_SEARCHES_MAX).map(one)
    });
    let emails: Vec<GoneRecord> = emails.collect();
    let mut lookups = PageLookups { session, unanswered: 0, is_partial: false };
    for keys in wanted.chunks(LOOK_UP_MAX) {
        let Some(seen) = lookups.ask(keys, |client, keys| client.look_up(keys)).await? else { continue };
        page.records.extend(seen.records);
        page.rejects.absorb(seen.rejects);
    }
    // One address after the other: one that the CRM does not search for costs no other.
    for gone in emails {
        let one = std::slice::from_ref(&gone);
        let winners = lookups.ask(one, |client, one| client.find_merge_winners(one)).await?.unwrap_or_default();
        page.records.extend(winners.records);
        page.rejects.absorb(winners.rejects);
    }
    if lookups.is_partial {
        page.is_partial = true;
        page.notices.push(LOOK_UPS_LEFT);
    }
    Ok(())
}

/// The optional look-ups of one page. Where several in a row bring nothing, the CRM has other
/// trouble, and the rest is left unasked.
struct PageLookups<'p, 'r> {
    session: &'p mut CrmSession<'r>,
    unanswered: usize,
    /// Something was left.
    is_partial: bool,
}

impl PageLookups<'_, '_> {
    async fn ask<A: ?Sized + Sync, T>(
        &mut self,
        argument: &A,
        request: impl for<'c> Fn(&'c dyn CrmClient, &'c A) -> CrmFuture<'c, T> + Sync,
    ) -> Result<Option<T>, RunError> {
        if self.unanswered >= UNANSWERED_MAX {
            return Ok(None);
        }
        let answer = self.session.ask_optional(argument, request).await?;
        self.unanswered = if answer.is_some() { 0 } else { self.unanswered + 1 };
        self.is_partial |= answer.is_none();
        Ok(answer)
    }
}
