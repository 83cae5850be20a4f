//! What any CRM's client is asked for, and what it brings: no vendor's word is in it.

use std::{pin::Pin, time::Duration};

use chrono::{DateTime, Utc};
use phone_key::PhoneKey;

use super::{
    CrmError, PageSize,
    hook::{HookWish, KeptHook},
    stream::{ChangeStream, StreamFuture, StreamRequest},
};
use crate::domain::{
    credentials::CrmAccess,
    integration::Organization,
    notice::Notice,
    options::Options,
    record::{AbsentRecord, ObjectType, Record, RecordKey},
    rejected::PageRejects,
};

/// One page of records.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent things that a page says of its run")]
pub struct RecordPage {
    /// In the CRM's order; one record may come twice.
    pub records: Vec<Record>,
    /// Records that the CRM was asked for and does not have: whatever copy is held, it is over.
    pub gone: Vec<AbsentRecord>,
    /// Records, and values of records, that could not be read.
    pub rejects: PageRejects,
    /// Where the next page, or the next run, goes on; `None`: where this one began.
    pub next: Option<String>,
    /// The end of what the CRM has now.
    pub is_last: bool,
    /// Every change that the CRM made until then is in this page or before; the CRM's clock.
    pub known_through: Option<DateTime<Utc>>,
    /// The CRM prepares the next page; to ask sooner is of no use.
    pub wait: Option<Duration>,
    /// What could not be seen, for whoever looks after the integration.
    pub notices: Vec<Notice>,
    /// The CRM cannot tell any more what was deleted since the last run: everything must be read
    /// again.
    pub needs_sweep: bool,
    /// Something optional was left: everything is to be read again some day soon.
    pub is_partial: bool,
    /// Something that was never copied was left: the copy is not whole, whatever else is known.
    pub is_incomplete: bool,
    /// The most records that the CRM's limit lets a run read in a minute; `None`: not known.
    pub records_per_minute: Option<i64>,
}

/// How much of a page is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageEffort {
    /// All of it: whatever fails fails the page.
    Whole,
    /// What is optional and fails ([`CrmError::is_local`]) is left, with a notice, and tried with a
    /// later run: a look-up, a log of deletions, the names of organizations, one of several kinds
    /// of objects.
    Essential,
}

/// What a look at a connection says.
#[derive(Debug, Clone)]
pub struct ConnectionProbe {
    /// About how many contacts there are.
    pub estimated_contacts: Option<i64>,
    /// The CRM's own number of the organisation, where its name may change.
    pub company_id: Option<String>,
    /// Its own fields of people that may be said to hold phone numbers; none where the CRM has a
    /// type of field for those.
    pub text_fields: Vec<TextField>,
}

/// A CRM's own field of people that holds text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextField {
    /// What it is named by.
    pub key: String,
    /// As people see it; at most 200 characters.
    pub title: String,
}

/// What the CRM says of records that were asked for by their ids. Of one that is nowhere in it,
/// nothing can be known: the CRM does not show it to these credentials.
#[derive(Debug, Default)]
pub struct RecordSightings {
    /// Shown; perhaps as one that is gone, with since when and what it was merged into. Each says
    /// when it was answered for.
    pub records: Vec<Record>,
    /// Deleted, or never there, with when the CRM said so.
    pub gone: Vec<AbsentRecord>,
    /// Shown, and not to be read, or not wholly.
    pub rejects: PageRejects,
}

impl RecordSightings {
    /// Adds those of another request.
    pub fn absorb(&mut self, other: Self) {
        self.records.extend(other.records);
        self.gone.extend(other.gone);
        self.rejects.absorb(other.rejects);
    }

    /// A record that an answer of this time shows.
    pub(super) fn see(&mut self, record: Record, at: DateTime<Utc>) {
        self.records.push(Record { answered_at: Some(at), ..record });
    }

    /// A record that is in no answer, the last of which was of this time.
    pub(super) fn miss(&mut self, key: RecordKey, at: DateTime<Utc>) {
        self.gone.push(AbsentRecord { key, seen_at: Some(at), successor: None });
    }
}

/// What a CRM has for a call that found nobody. In no order that could be gone on from, and without
/// deletions: nothing of it moves a position.
#[derive(Debug, Default)]
pub struct FoundRecords {
    /// As they are in a list.
    pub records: Vec<Record>,
    /// Those of them whose organisation was not asked for its name.
    pub unnamed: Vec<RecordKey>,
    /// Those of them that an index has shown, which may be behind.
    pub unconfirmed: Vec<RecordKey>,
    /// Records, and values of records, that could not be read.
    pub rejects: PageRejects,
    /// Something was left out: the oldest changes, or a kind of objects.
    pub is_partial: bool,
    /// A kind of objects was asked for, and the CRM did not answer.
    pub has_failed: bool,
}

/// Who has a number, as far as a CRM's index knows.
#[derive(Debug, Default)]
pub struct NumberMatches {
    /// Those whom it shows whole.
    pub shown: Vec<Record>,
    /// Those whom it only names.
    pub named: Vec<RecordKey>,
}

/// A record that has just turned out to be gone, and the e-mail addresses that we know of it.
#[derive(Debug)]
pub struct GoneRecord {
    /// Which.
    pub key: RecordKey,
    /// As copied before.
    pub emails: Vec<String>,
}

/// The most records that one [`CrmClient::look_up`] or [`CrmClient::find_merge_winners`] takes.
pub const LOOK_UP_MAX: usize = 100;
/// The most records that one [`CrmClient::find_by_number`] finds.
pub const FOUND_MAX: usize = 20;

const NO_STREAMS: CrmError = CrmError::Unavailable("it has no streams of changes");

/// What a call to a CRM leads to.
pub type CrmFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, CrmError>> + Send + 'a>>;

/// One organisation's CRM, as a sync sees it.
pub trait CrmClient: Send + Sync {
    /// Whether the access opens it, belongs to this organisation, and may read every contact.
    fn probe(&self) -> CrmFuture<'_, ConnectionProbe>;

    /// Whether the access is of this organisation. [`CrmError::Renamed`]: it is, under another
    /// name. One that has no number beside its name is known by its host alone.
    fn identify(&self) -> CrmFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }

    /// About how many contacts there are; `None` if the CRM does not say.
    fn count(&self) -> CrmFuture<'_, Option<i64>>;

    /// The page at this position, which an earlier page of this or another run has named; `None`:
    /// the first page of everything.
    /// [`CrmError::PositionRefused`]: it leads nowhere any more.
    fn fetch_page<'a>(&'a self, position: Option<&'a str>, effort: PageEffort) -> CrmFuture<'a, RecordPage>;

    /// How many records of a page are asked for.
    fn page_size(&self) -> &PageSize;

    /// Whether [`PageEffort`] makes a difference.
    fn has_optional_parts(&self) -> bool {
        false
    }

    /// Kinds of objects that the run which ended at this position has left to the next one: what
    /// did not come of them says nothing.
    fn left_at(&self, position: &str) -> Vec<ObjectType> {
        let _ = position;
        Vec::new()
    }

    /// Sees to it that there is one webhook of this name, as wished; repeated, it changes nothing.
    /// Only where the vendor has any.
    fn keep_hook<'a>(&'a self, wish: &'a HookWish) -> CrmFuture<'a, KeptHook> {
        let _ = wish;
        Box::pin(async { Err(CrmError::Unavailable("it has no webhooks")) })
    }

    /// Removes every webhook of this name, and every one that sends to this address.
    fn remove_hook<'a>(&'a self, name: &'a str, url: Option<&'a str>) -> CrmFuture<'a, ()> {
        let _ = (name, url);
        Box::pin(async { Ok(()) })
    }

    /// Whether a stream can be had by this access; asked before it is opened.
    fn check_stream<'a>(&'a self, request: &'a StreamRequest) -> StreamFuture<'a, ()> {
        let _ = request;
        Box::pin(async { Err(NO_STREAMS.into()) })
    }

    /// Follows the changes of a kind. It connects when it is first polled, and outlives the client.
    fn follow(&self, request: StreamRequest) -> ChangeStream {
        let _ = request;
        Box::pin(futures_util::stream::once(async { Err(NO_STREAMS.into()) }))
    }

    /// Asks for records by their ids, at most [`LOOK_UP_MAX`]; it takes from the same quota as
    /// pages do.
    fn look_up<'a>(&'a self, keys: &'a [RecordKey]) -> CrmFuture<'a, RecordSightings>;

    /// The newest of what has changed since the run that ended at this checkpoint; by as few
    /// requests as there are kinds of objects. Only where the vendor lists changes without delay.
    fn fetch_newest<'a>(&'a self, checkpoint: &'a str) -> CrmFuture<'a, FoundRecords> {
        let _ = checkpoint;
        Box::pin(async { Ok(FoundRecords::default()) })
    }

    /// Records with this number, as far as the CRM's index finds it as it was written, at most
    /// [`FOUND_MAX`].
    fn find_by_number(&self, key: PhoneKey) -> CrmFuture<'_, NumberMatches>;

    /// Records that may have taken in gone ones, read anew, where the CRM does not say who they
    /// are. At most [`LOOK_UP_MAX`] gone ones.
    fn find_merge_winners<'a>(&'a self, gone: &'a [GoneRecord]) -> CrmFuture<'a, RecordSightings> {
        let _ = gone;
        Box::pin(async { Ok(RecordSightings::default()) })
    }
}

/// Whose CRM a client is for, and what it is to bring.
pub struct ClientTarget<'a> {
    /// The connection is only tried: nothing is learned of its limits.
    pub is_trial: bool,
    /// Everything is copied for the first time, which may take another share of the quota.
    pub is_first_copy: bool,
    /// It asks beside everything else, for a call that waits: never long, and a tenth of a short
    /// limit at most.
    pub is_beside: bool,
    /// The CRM's organisation.
    pub organization: &'a Organization,
    /// What is copied.
    pub options: Options,
    /// What each request carries.
    pub access: CrmAccess,
}
