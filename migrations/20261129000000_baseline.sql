-- The schema, whole. Portable SQL: no triggers, functions, sequences or session state. Ids and times come from the service,
-- but for leases. Each table begins with the account that its rows belong to, and so do its keys and foreign keys: the tables can be
-- distributed by it.

-- ------------------------------------------------------------------------------------------------------------------ accounts

-- A customer. Every row of every other table belongs to one.
create table accounts (
    -- Chosen by whoever makes it, or by the service.
    account_id uuid not null,
    -- For people; 1 to 200 characters.
    display_name text not null,
    -- The country of numbers written without one (ISO 3166-1 alpha-2).
    default_region text not null,
    -- Further countries that such a number may be of, at most 20.
    further_regions text[] not null,
    -- Which of several contacts with a number comes first, as `domain::account::MatchPolicy` writes it.
    match_policy text not null default 'FIRST_CREATED',
    -- Of the policy PREFERRED_INTEGRATION: which.
    preferred_integration_id uuid,
    -- The rules by which the account's stored numbers were read; older than the program's: they are read again.
    key_version smallint not null default 1,
    -- When the regions last changed; null: the stored numbers were read with those of today.
    reparse_requested_at timestamptz,
    -- Reading again goes on behind this contact; null: it begins.
    reparse_after uuid,
    -- When it was made.
    created_at timestamptz not null,
    -- When it was last changed.
    updated_at timestamptz not null,
    constraint accounts_pkey primary key (account_id),
    constraint accounts_display_name_check check (char_length(display_name) between 1 and 200),
    constraint accounts_default_region_check check (default_region ~ '^[A-Z]{2}$'),
    constraint accounts_further_regions_check check (cardinality(further_regions) <= 20),
    constraint accounts_match_policy_check
        check (match_policy in ('FIRST_CREATED', 'LAST_SELECTED', 'LAST_UPDATED', 'PREFERRED_INTEGRATION')),
    constraint accounts_preferred_check
        check ((match_policy = 'PREFERRED_INTEGRATION') = (preferred_integration_id is not null))
);

-- -------------------------------------------------------------------------------------------------------------- integrations

-- An account's link to one CRM organisation: options, sealed credentials, checkpoint, and the lease of its worker.
create table integrations (
    -- Whose it is.
    account_id uuid not null,
    -- Given by the service.
    integration_id uuid not null,
    -- The CRM.
    provider text not null,
    -- The organisation in it, as the CRM names it; 1 to 100 characters.
    organization text not null,
    -- The CRM's own number of it, where its name may change (Pipedrive); null: not learned yet.
    company_id text,
    -- False after DisableSync; enabling the same organisation again takes this row up again.
    is_enabled boolean not null,
    -- False: no pass is due by itself.
    is_sync_on boolean not null,
    -- DisableSync with PURGE: a worker removes the copied data in batches, then clears this.
    is_purging boolean not null default false,
    -- More is to be copied than before, and has not been yet.
    is_widened boolean not null default false,
    -- Records or numbers of it could not be read, and are among its rejected records, or found no room there.
    has_unread boolean not null default false,
    -- Seconds from one pass to the next, at most a day.
    period_seconds integer not null,
    -- What is copied and mirrored, as `domain::integration::Options` writes it; what is absent has its default.
    options jsonb not null default '{}',
    -- Of the EnableSync that made it, for its repetition.
    request_id uuid,

    -- Sealed by the vault; the associated data names account, integration and field.
    credentials bytea,
    -- The access token got by the credentials, sealed by the vault.
    access bytea,
    -- Its number; each new token adds one.
    access_version bigint not null default 0,
    -- Who is getting a new access token.
    refresh_claim uuid,
    -- Until when that may last (the database's clock).
    refresh_claimed_until timestamptz,
    -- Whether the refresh token may be sent: FREE; SPENT (refused twice, or its last answer was lost); ONCE (somebody asks for a try).
    refresh_use text not null default 'FREE',

    -- Why no pass is started although sync is on.
    hold text,
    -- What the CRM or the service said, in words.
    hold_reason text,
    -- When the CRM first refused what it has refused since; null: it does not. AUTH_FAILED only follows minutes later.
    refused_at timestamptz,
    -- Where the next pass starts; moves with the last page of a pass only.
    checkpoint text,
    -- Every change that the CRM made until then is here (the CRM's clock).
    known_through timestamptz,
    -- When the first pass began.
    first_started_at timestamptz,
    -- When the last pass that succeeded ended.
    last_completed_at timestamptz,
    -- When the next pass may start; null: none. Kept while a pass runs, so that a crash leaves it due.
    due_at timestamptz,
    -- Passes that failed one after another.
    failures integer not null default 0,
    -- When the next pass is a sweep: reads everything, and asks for what did not come.
    sweep_due_at timestamptz,
    -- The sweep under way, or the last one. Stays when a later run goes on with it.
    sweep_number bigint not null default 0,
    -- Deletions that the last sweep did not make because they were too many.
    held_deletions bigint,
    -- How many of them somebody has confirmed since.
    confirmed_deletions bigint,
    -- Rejected records that were met since the last full read began, and found no room among those that are kept.
    rejected_left_out bigint not null default 0,

    -- Fences every write of a run: claimed, cancelled and disabled each add one.
    lease_number bigint not null default 0,
    -- By the database's clock; null: free.
    lease_until timestamptz,

    -- When it was made.
    created_at timestamptz not null,
    -- When it was last changed.
    updated_at timestamptz not null,
    constraint integrations_pkey primary key (account_id, integration_id),
    constraint integrations_account_fkey foreign key (account_id) references accounts (account_id),
    constraint integrations_provider_check check (provider in ('ZENDESK', 'SALESFORCE', 'PIPEDRIVE')),
    constraint integrations_hold_check check (hold in ('PAUSED', 'QUOTA_PAUSED', 'AUTH_FAILED')),
    constraint integrations_refresh_use_check check (refresh_use in ('FREE', 'SPENT', 'ONCE')),
    constraint integrations_period_check check (period_seconds between 1 and 86400),
    constraint integrations_organization_check check (char_length(organization) between 1 and 100)
);

create unique index integrations_organization_key on integrations (account_id, provider, organization);
create unique index integrations_request_key on integrations (account_id, request_id) where request_id is not null;
-- The due scan is a read across accounts.
create index integrations_due_idx on integrations (due_at) where due_at is not null;

-- An administrator was sent to a CRM to authorize this service, and has not come back yet. Ten minutes, one use.
create table authorizations (
    -- Whose it is.
    account_id uuid not null,
    -- SHA-256 of the secret part of the OAuth parameter `state`.
    state_hash bytea not null,
    -- The CRM.
    provider text not null,
    -- Empty: whatever organisation the administrator chooses.
    organization text not null,
    -- The integration to authorize again; null: a new one.
    integration_id uuid,
    -- PKCE verifier and the request's details, sealed by the vault.
    sealed bytea not null,
    -- When the administrator was sent.
    created_at timestamptz not null,
    -- Not accepted from then on.
    expires_at timestamptz not null,
    constraint authorizations_pkey primary key (account_id, state_hash),
    constraint authorizations_account_fkey foreign key (account_id) references accounts (account_id),
    constraint authorizations_provider_check check (provider in ('ZENDESK', 'SALESFORCE', 'PIPEDRIVE'))
);

create index authorizations_expires_idx on authorizations (account_id, expires_at);

-- One pass over an integration.
create table sync_runs (
    -- Whose it is.
    account_id uuid not null,
    -- Given by the service.
    sync_run_id uuid not null,
    -- What it reads.
    integration_id uuid not null,
    -- First copy, changes since the checkpoint, or everything again.
    kind text not null,
    -- Three of them are final.
    state text not null,
    -- Of the TriggerSync or EnableSync that asked for it, for its repetition.
    request_id uuid,
    -- What it is doing, for people.
    phase text not null,
    -- Where this run goes on after a crash; moves with each page.
    resume_point text,
    -- Times that a worker has taken it up.
    attempt integer not null default 0,
    -- Attempts since the resume point last moved: a run that crashes its worker again and again is stopped.
    stalled_attempts integer not null default 0,
    -- A sweep: the CRM has listed everything, what is left is to ask for what did not come.
    is_listed boolean not null default false,
    -- Records that the CRM sent, repeats included; the sum of the next five.
    read_count bigint not null default 0,
    -- Records first seen.
    created_count bigint not null default 0,
    -- Records changed here.
    updated_count bigint not null default 0,
    -- Records gone in the CRM, and so here.
    deleted_count bigint not null default 0,
    -- Records known already, or older than what is here.
    skipped_count bigint not null default 0,
    -- Records not understood.
    rejected_count bigint not null default 0,
    -- About how many records the run will read; 0: not known.
    estimated_total bigint not null default 0,
    -- The most records that the CRM's limit lets it read in a minute; 0: not known.
    records_per_minute bigint not null default 0,
    -- What the run could not see or do, in words.
    notices text[] not null default '{}',
    -- Why it failed, or the last failure that is retried; may be empty.
    error text not null default '',
    -- When it was asked for.
    created_at timestamptz not null,
    -- When a worker first took it up.
    started_at timestamptz,
    -- When it ended.
    finished_at timestamptz,
    -- When it was last changed.
    updated_at timestamptz not null,
    constraint sync_runs_pkey primary key (account_id, sync_run_id),
    constraint sync_runs_integration_fkey foreign key (account_id, integration_id)
        references integrations (account_id, integration_id),
    constraint sync_runs_kind_check check (kind in ('INITIAL', 'INCREMENTAL', 'SWEEP')),
    constraint sync_runs_state_check check (state in ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED'))
);

-- The last wall against two passes at once.
create unique index sync_runs_active_key on sync_runs (account_id, integration_id) where state in ('QUEUED', 'RUNNING');
create unique index sync_runs_request_key on sync_runs (account_id, request_id) where request_id is not null;
create index sync_runs_integration_idx on sync_runs (account_id, integration_id, sync_run_id);

-- What a page could not give: a record that could not be read, or values that a copied one lacks. At most 1,000 of an integration,
-- each for 30 days after it was last met.
create table rejected_records (
    -- Whose it is.
    account_id uuid not null,
    -- The CRM organisation that it is in.
    integration_id uuid not null,
    -- What the CRM calls this kind of object.
    object_type text not null,
    -- The CRM's id; of a record that does not say its own, `#` and a keyed fingerprint of its content.
    record_key text not null,
    -- Why, as `domain::rejected::RejectReason` writes it.
    reason text not null,
    -- The fields that this is about, as the CRM calls them; may be empty.
    fields text not null,
    -- The record itself was copied, without these values.
    is_copied boolean not null,
    -- A phone number may be among what was not copied.
    hides_number boolean not null,
    -- The next run asks the CRM for it again.
    is_retried boolean not null default false,
    -- The full read under way has not seen it yet.
    is_unseen boolean not null default false,
    -- As the CRM sent it, at most 16 KiB, sealed by the vault. Null: it had no content, or an erasure has removed it.
    raw bytea,
    -- The run that last met it.
    sync_run_id uuid not null,
    -- When it was first met.
    first_seen_at timestamptz not null,
    -- When it was last met.
    last_seen_at timestamptz not null,
    -- By how many runs it was met.
    times_seen bigint not null,
    constraint rejected_records_pkey primary key (account_id, integration_id, object_type, record_key),
    constraint rejected_records_integration_fkey foreign key (account_id, integration_id)
        references integrations (account_id, integration_id)
);

-- ------------------------------------------------------------------------------------------------------------------ contacts

-- A person. Dead rows stay as tombstones without personal data, so that an id once given out still leads somewhere.
create table contacts (
    -- Whose it is.
    account_id uuid not null,
    -- Given by the service.
    contact_id uuid not null,
    -- As the CRM has it; empty of a placeholder and of a tombstone.
    display_name text not null,
    -- Where the person works, as the CRM has it; may be empty.
    organization text not null,
    -- As the CRM has them.
    emails text[] not null,
    -- Made by a call, and without any record yet.
    is_placeholder boolean not null,
    -- Grows with each change; names the change in the feed.
    version bigint not null default 1,
    -- With contact_id: the rank "first created". A merge gives the survivor the older one.
    created_at timestamptz not null,
    -- When it was last changed.
    updated_at timestamptz not null,
    -- When it ended; null: alive.
    deleted_at timestamptz,
    -- The person was erased; the tombstone says no more than that.
    erased_at timestamptz,
    -- The contact that this one was merged into.
    merged_into uuid,
    -- The contact at the end of that chain.
    survivor_id uuid,
    constraint contacts_pkey primary key (account_id, contact_id),
    constraint contacts_alias_check check ((merged_into is null) = (survivor_id is null)),
    constraint contacts_alias_dead_check check (survivor_id is null or deleted_at is not null)
);

-- For pulling the aliases of a contact along when it is merged itself.
create index contacts_survivor_idx on contacts (account_id, survivor_id) where survivor_id is not null;
-- For giving back its own aliases to a contact that a restore revives.
create index contacts_merged_into_idx on contacts (account_id, merged_into) where merged_into is not null;
create index contacts_erased_idx on contacts (account_id, erased_at) where erased_at is not null;

-- One object in a CRM: which contact it is.
create table external_refs (
    -- Whose it is.
    account_id uuid not null,
    -- The CRM organisation that it is in.
    integration_id uuid not null,
    -- What the CRM calls this kind of object.
    object_type text not null,
    -- The CRM's id.
    record_id text not null,
    -- Null: first seen as deleted.
    contact_id uuid,
    -- False: the CRM has said that it is gone.
    is_live boolean not null,
    -- False: known from a click or a report only; any sync wins over it.
    is_synced boolean not null,
    -- The CRM's update time: an older copy never overwrites a newer one.
    record_updated_at timestamptz,
    -- The CRM's role of the record; empty: it has none.
    role text not null,
    -- Where a browser shows it; may be empty.
    url text not null,
    -- The country of the record's address, by which its numbers are read: ISO 3166-1 alpha-2, empty if the CRM does not say.
    region text not null default '',
    -- Of everything that a sync copies; equal: nothing to write.
    fingerprint bigint,
    -- The type of the record that this one was merged into or (a Lead) converted into.
    successor_type text,
    -- That record's id, as the CRM names it.
    successor_id text,
    -- The last sweep that saw it.
    seen_by_sweep bigint not null default 0,
    -- When it was first seen.
    created_at timestamptz not null,
    -- When it was last changed.
    updated_at timestamptz not null,
    constraint external_refs_pkey primary key (account_id, integration_id, object_type, record_id),
    constraint external_refs_integration_fkey foreign key (account_id, integration_id)
        references integrations (account_id, integration_id),
    constraint external_refs_contact_fkey foreign key (account_id, contact_id) references contacts (account_id, contact_id),
    constraint external_refs_live_check check (not is_live or contact_id is not null),
    constraint external_refs_successor_check check ((successor_type is null) = (successor_id is null)),
    constraint external_refs_successor_gone_check check (successor_id is null or not is_live)
);

create index external_refs_contact_idx on external_refs (account_id, contact_id) where contact_id is not null;
-- A successor that comes later finds who waits for it.
create index external_refs_successor_idx on external_refs (account_id, integration_id, successor_type, successor_id)
    where successor_id is not null;

-- A number, owned by the ref that brought it, or by a placeholder (integration_id zero, object_type and record_id empty).
create table phone_numbers (
    -- Whose it is.
    account_id uuid not null,
    -- Who has it.
    contact_id uuid not null,
    -- Of the ref that brought it, with the next two.
    integration_id uuid not null,
    -- See integration_id.
    object_type text not null,
    -- See integration_id.
    record_id text not null,
    -- Its place among the ref's numbers, from 0.
    position smallint not null,
    -- As the CRM or the call wrote it.
    raw text not null,
    -- The region that the raw text was read with; empty: none was needed or known.
    region text not null,
    -- E.164 digits; null: not a number that can be called.
    e164 bigint,
    -- The digits of a number written without a country, where another region, or none, may be meant; for the weaker tiers.
    local_digits bigint,
    -- The rules by which it was read.
    key_version smallint not null,
    -- Digits to dial after the number; may be empty.
    extension text not null,
    -- What the CRM calls it; may be empty.
    label text not null,
    -- The contact's rank, kept here too: ordering a shared line by a join cost 160 ms instead of 0.4 ms.
    is_placeholder boolean not null,
    -- See is_placeholder.
    contact_created_at timestamptz not null,
    constraint phone_numbers_pkey primary key (account_id, contact_id, integration_id, object_type, record_id, position),
    -- Looked at when the transaction commits: a placeholder and its number are made by one statement, whose parts a distributed
    -- database runs one after the other.
    constraint phone_numbers_contact_fkey foreign key (account_id, contact_id) references contacts (account_id, contact_id)
        deferrable initially deferred,
    constraint phone_numbers_e164_check check (e164 > 0),
    constraint phone_numbers_local_digits_check check (local_digits > 0)
);

-- The look-up of a call: equality on the first two, then the order of the answer.
create index phone_numbers_lookup_idx on phone_numbers (account_id, e164, is_placeholder, contact_created_at, contact_id)
    where e164 is not null;
-- Exactly one stranger to a number, however many calls race.
create unique index phone_numbers_placeholder_key on phone_numbers (account_id, e164) where is_placeholder;
create index phone_numbers_local_idx on phone_numbers (account_id, local_digits) where local_digits is not null;

-- --------------------------------------------------------------------------------------------------------------------- calls

-- What the router told us of one call, the answer given, and the contact it is attributed to. Kept 90 days.
-- No foreign keys here: a contact that a call names becomes a tombstone, and the call path pays for no check.
create table calls (
    -- Whose it is.
    account_id uuid not null,
    -- Given by the router; 1 to 128 characters.
    call_id text not null,
    -- The key of the number that was asked for; null: it has none.
    e164 bigint,
    -- Only where there is no key: tells a reused call id apart.
    raw text,
    -- Who called whom.
    direction text not null,
    -- Null: known from a click only, not asked yet.
    outcome text,
    -- The contact of the answer.
    contact_id uuid,
    -- How sure the answer was.
    tier text,
    -- The contact that an agent, or a click, chose.
    selection_id uuid,
    -- Which of the two.
    selected_by text,
    -- When it was first heard of.
    created_at timestamptz not null,
    -- When it was last changed.
    updated_at timestamptz not null,
    constraint calls_pkey primary key (account_id, call_id),
    constraint calls_call_id_check check (char_length(call_id) between 1 and 128),
    constraint calls_direction_check check (direction in ('INBOUND', 'OUTBOUND')),
    constraint calls_outcome_check check (outcome in
        ('MATCHED', 'AMBIGUOUS', 'CREATED', 'NOT_FOUND', 'NOT_KNOWN_YET', 'WITHHELD', 'UNPARSEABLE'))
);

-- For forgetting old calls. Not by account first: on a table without statistics the planner took such an index for a call's id.
create index calls_created_idx on calls (created_at);
-- For erasing a person.
create index calls_number_idx on calls (account_id, e164) where e164 is not null;
create index calls_contact_idx on calls (account_id, contact_id) where contact_id is not null;
create index calls_selection_idx on calls (account_id, selection_id) where selection_id is not null;

-- An agent has clicked a number and the call has not come yet. Good for five minutes.
create table expected_calls (
    -- Whose it is.
    account_id uuid not null,
    -- Given by the service.
    expected_call_id uuid not null,
    -- The number's key.
    e164 bigint not null,
    -- The contact that was clicked.
    contact_id uuid not null,
    -- Empty: the adapter did not say.
    agent_id text not null,
    -- When it was clicked.
    created_at timestamptz not null,
    -- When its call came; null: it has not.
    consumed_at timestamptz,
    constraint expected_calls_pkey primary key (account_id, expected_call_id)
);

create index expected_calls_number_idx on expected_calls (account_id, e164, created_at) where consumed_at is null;
-- By account first: planned on an empty table, the look-up of a click took the other order, and read every account's.
create index expected_calls_created_idx on expected_calls (account_id, created_at);
-- For erasing a person.
create index expected_calls_contact_idx on expected_calls (account_id, contact_id);

-- The contact that an agent last chose for a number; for the policy LAST_SELECTED. Kept 90 days.
create table selections (
    -- Whose it is.
    account_id uuid not null,
    -- The number's key.
    e164 bigint not null,
    -- Who was chosen.
    contact_id uuid not null,
    -- When.
    selected_at timestamptz not null,
    constraint selections_pkey primary key (account_id, e164)
);

create index selections_selected_idx on selections (account_id, selected_at);
-- For erasing a person.
create index selections_contact_idx on selections (account_id, contact_id);

-- To whom an automation was told to attribute a call, and why; kept as long as the call.
create table requester_decisions (
    -- Whose it is.
    account_id uuid not null,
    -- The call.
    call_id text not null,
    -- In which CRM organisation.
    integration_id uuid not null,
    -- Names it in the feed, with the version.
    decision_id uuid not null,
    -- Grows with each correction.
    version bigint not null,
    -- RESOLVED, AMBIGUOUS or NONE.
    outcome text not null,
    -- Of the record named, with the next two; null: none was.
    object_type text,
    -- The record's id in the CRM.
    record_id text,
    -- Why this record.
    evidence text,
    -- The call's contact by which it was decided.
    contact_id uuid,
    -- The call's number.
    e164 bigint,
    -- Something that it rests on may have changed since; also of a fresh one, which may have missed a change just committed.
    is_stale boolean not null,
    -- When.
    decided_at timestamptz not null,
    constraint requester_decisions_pkey primary key (account_id, call_id, integration_id),
    constraint requester_decisions_outcome_check check (outcome in ('RESOLVED', 'AMBIGUOUS', 'NONE')),
    constraint requester_decisions_record_check check (
        (outcome = 'RESOLVED') = (record_id is not null) and (record_id is null) = (object_type is null)
        and (record_id is null) = (evidence is null)
    )
);

create index requester_decisions_stale_idx on requester_decisions (account_id, decided_at) where is_stale;
create index requester_decisions_contact_idx on requester_decisions (account_id, contact_id) where contact_id is not null;
create index requester_decisions_record_idx on requester_decisions (account_id, integration_id, object_type, record_id)
    where record_id is not null;
create index requester_decisions_number_idx on requester_decisions (account_id, e164) where e164 is not null;

-- The contacts that a decision rests on: a change of one makes it stale.
create table requester_grounds (
    -- Whose it is.
    account_id uuid not null,
    -- Of the decision.
    call_id text not null,
    -- Of the decision.
    integration_id uuid not null,
    -- One of the contacts.
    contact_id uuid not null,
    constraint requester_grounds_pkey primary key (account_id, call_id, integration_id, contact_id),
    constraint requester_grounds_decision_fkey foreign key (account_id, call_id, integration_id)
        references requester_decisions (account_id, call_id, integration_id) on delete cascade
);

create index requester_grounds_contact_idx on requester_grounds (account_id, contact_id);

-- ---------------------------------------------------------------------------------------------------------------------- feed

-- What has become of contacts and of earlier answers, in the order in which readers see it. Written without a number in the change's
-- own transaction; numbered once it is committed. Nothing personal is in it. Kept 30 days.
create table changes (
    -- Whose it is.
    account_id uuid not null,
    -- The contact; of a correction, the decision.
    subject_id uuid not null,
    -- The contact's (the decision's) version that this change made.
    version bigint not null,
    -- What has become of it.
    kind text not null,
    -- Its place in the feed; null: not published yet.
    number bigint,
    -- Of a contact merged or adopted: the one that goes on.
    survivor_id uuid,
    -- What a correction says.
    correction jsonb,
    -- When.
    created_at timestamptz not null,
    constraint changes_pkey primary key (account_id, subject_id, version),
    constraint changes_kind_check check (kind in ('CREATED', 'CHANGED', 'DELETED', 'MERGED', 'ADOPTED', 'ERASED', 'CORRECTED')),
    constraint changes_survivor_check check ((kind in ('MERGED', 'ADOPTED')) = (survivor_id is not null)),
    constraint changes_correction_check check ((kind = 'CORRECTED') = (correction is not null))
);

create unique index changes_number_key on changes (account_id, number) where number is not null;
create index changes_unpublished_idx on changes (account_id, created_at) where number is null;
create index changes_corrected_idx on changes (account_id, created_at) where kind = 'CORRECTED';

-- The counter of an account's feed; its row lock makes one publisher of many.
create table feeds (
    -- Whose it is.
    account_id uuid not null,
    -- The last number given.
    last_number bigint not null,
    -- Changes up to this number are not kept any more.
    forgotten_through bigint not null,
    -- Which database, on which server and of which timeline, gave the numbers; null: not known, or `contact-sync feed new-epoch`.
    origin text,
    -- Renewed with each other origin; readers name it. Null: nothing was ever published.
    epoch text,
    -- Numbers of this epoch are above this one; 0: the first epoch.
    epoch_base bigint not null default 0,
    constraint feeds_pkey primary key (account_id),
    constraint feeds_account_fkey foreign key (account_id) references accounts (account_id)
);

-- ------------------------------------------------------------------------------------------------------------------- erasure

-- The secret by which an account's erased records are known again.
create table suppression_keys (
    -- Whose it is.
    account_id uuid not null,
    -- Sealed by the vault.
    sealed bytea not null,
    constraint suppression_keys_pkey primary key (account_id),
    constraint suppression_keys_account_fkey foreign key (account_id) references accounts (account_id)
);

-- A record that was erased and must not come back.
create table suppressions (
    -- Whose it is.
    account_id uuid not null,
    -- HMAC-SHA256 of integration, object type and record id.
    mark bytea not null,
    -- When it was erased.
    created_at timestamptz not null,
    constraint suppressions_pkey primary key (account_id, mark)
);
