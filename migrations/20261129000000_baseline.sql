-- The schema, whole. Portable SQL: no triggers, functions, sequences or session state. Ids and times come from the service,
-- but for leases. Each table begins with the account that its rows belong to, and so do its keys and foreign keys: the tables can be
-- distributed by it.

-- ------------------------------------------------------------------------------------------------------------------ accounts

create table accounts (
    account_id uuid not null,
    display_name text not null,
    default_region text not null,
    further_regions text[] not null,
    match_policy text not null default 'FIRST_CREATED',
    preferred_integration_id uuid,
    key_version smallint not null default 1,
    reparse_requested_at timestamptz,
    reparse_after uuid,
    created_at timestamptz not null,
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

comment on table accounts is 'A customer. Every row of every other table belongs to one.';
comment on column accounts.account_id is 'Chosen by whoever makes it, or by the service.';
comment on column accounts.display_name is 'For people; 1 to 200 characters.';
comment on column accounts.default_region is 'The country of numbers written without one (ISO 3166-1 alpha-2).';
comment on column accounts.further_regions is 'Further countries that such a number may be of, at most 20.';
comment on column accounts.match_policy is
    'Which of several contacts with a number comes first, as `domain::match_policy::MatchPolicy` writes it.';
comment on column accounts.preferred_integration_id is 'Of the policy PREFERRED_INTEGRATION: which.';
comment on column accounts.key_version is
    'The rules by which the account''s stored numbers were read; older than the program''s: they are read again.';
comment on column accounts.reparse_requested_at is 'When the regions last changed; null: the stored numbers were read with those of today.';
comment on column accounts.reparse_after is 'Reading again goes on behind this contact; null: it begins.';
comment on column accounts.created_at is 'When it was made.';
comment on column accounts.updated_at is 'When it was last changed.';

-- -------------------------------------------------------------------------------------------------------------- integrations

create table integrations (
    account_id uuid not null,
    integration_id uuid not null,
    provider text not null,
    organization text not null,
    company_id text,
    is_enabled boolean not null,
    is_sync_on boolean not null,
    is_purging boolean not null default false,
    is_widened boolean not null default false,
    has_unread boolean not null default false,
    period_seconds integer not null,
    options jsonb not null default '{}',
    request_id uuid,

    credentials bytea,
    access bytea,
    access_version bigint not null default 0,
    refresh_claim uuid,
    refresh_claimed_until timestamptz,
    refresh_use text not null default 'FREE',

    hold text,
    hold_reason text,
    refused_at timestamptz,
    checkpoint text,
    known_through timestamptz,
    first_started_at timestamptz,
    last_completed_at timestamptz,
    due_at timestamptz,
    failures integer not null default 0,
    sweep_due_at timestamptz,
    sweep_number bigint not null default 0,
    held_deletions bigint,
    confirmed_deletions bigint,
    rejected_left_out bigint not null default 0,

    lease_number bigint not null default 0,
    lease_until timestamptz,

    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint integrations_pkey primary key (account_id, integration_id),
    constraint integrations_account_fkey foreign key (account_id) references accounts (account_id),
    constraint integrations_provider_check check (provider in ('ZENDESK', 'SALESFORCE', 'PIPEDRIVE')),
    constraint integrations_hold_check check (hold in ('PAUSED', 'QUOTA_PAUSED', 'AUTH_FAILED')),
    constraint integrations_refresh_use_check check (refresh_use in ('FREE', 'SPENT', 'ONCE')),
    constraint integrations_period_check check (period_seconds between 1 and 86400),
    constraint integrations_organization_check check (char_length(organization) between 1 and 100)
);

comment on table integrations is
    'An account''s link to one CRM organisation: options, sealed credentials, checkpoint, and the lease of its worker.';
comment on column integrations.account_id is 'Whose it is.';
comment on column integrations.integration_id is 'Given by the service.';
comment on column integrations.provider is 'The CRM.';
comment on column integrations.organization is 'The organisation in it, as the CRM names it; 1 to 100 characters.';
comment on column integrations.company_id is 'The CRM''s own number of it, where its name may change (Pipedrive); null: not learned yet.';
comment on column integrations.is_enabled is 'False after DisableSync; enabling the same organisation again takes this row up again.';
comment on column integrations.is_sync_on is 'False: no run is due by itself.';
comment on column integrations.is_purging is 'DisableSync with PURGE: a worker removes the copied data in batches, then clears this.';
comment on column integrations.is_widened is 'More is to be copied than before, and has not been yet.';
comment on column integrations.has_unread is
    'Records or numbers of it could not be read, and are among its rejected records, or found no room there.';
comment on column integrations.period_seconds is 'Seconds from one run to the next, at most a day.';
comment on column integrations.options is
    'What is copied and mirrored, as `domain::options::Options` writes it; what is absent has its default.';
comment on column integrations.request_id is 'Of the EnableSync that made it, for its repetition.';
comment on column integrations.credentials is 'Sealed by the vault; the associated data names account, integration and field.';
comment on column integrations.access is 'The access token got by the credentials, sealed by the vault.';
comment on column integrations.access_version is 'Its number; each new token adds one.';
comment on column integrations.refresh_claim is 'Who is getting a new access token.';
comment on column integrations.refresh_claimed_until is 'Until when that may last (the database''s clock).';
comment on column integrations.refresh_use is
    'Whether the refresh token may be sent: FREE; SPENT (refused twice, or its last answer was lost); ONCE (somebody asks for a try).';
comment on column integrations.hold is 'Why runs are not started as they would be although sync is on.';
comment on column integrations.hold_reason is 'What the CRM or the service said, in words.';
comment on column integrations.refused_at is
    'When the CRM first refused what it has refused since; null: it does not. AUTH_FAILED follows minutes later, but for what is refused for good.';
comment on column integrations.checkpoint is 'Where the next run starts; moves with the last page of a run only.';
comment on column integrations.known_through is 'Every change that the CRM made until then is here (the CRM''s clock).';
comment on column integrations.first_started_at is 'When the first run began.';
comment on column integrations.last_completed_at is 'When the last run that succeeded ended.';
comment on column integrations.due_at is 'When the next run may start; null: none. Kept during a run, so that a crash leaves it due.';
comment on column integrations.failures is 'Runs that failed one after another.';
comment on column integrations.sweep_due_at is 'When the next run is a sweep: reads everything, and asks for what did not come.';
comment on column integrations.sweep_number is 'The sweep under way, or the last one. Stays when a later run goes on with it.';
comment on column integrations.held_deletions is 'Deletions that the last sweep did not make because they were too many.';
comment on column integrations.confirmed_deletions is 'How many of them somebody has confirmed since.';
comment on column integrations.rejected_left_out is
    'Rejected records that were met since the last full read began, and found no room among those that are kept.';
comment on column integrations.lease_number is 'Fences every write of a run: claimed, cancelled and disabled each add one.';
comment on column integrations.lease_until is 'By the database''s clock; null: free.';
comment on column integrations.created_at is 'When it was made.';
comment on column integrations.updated_at is 'When it was last changed.';

create unique index integrations_organization_key on integrations (account_id, provider, organization);
create unique index integrations_request_key on integrations (account_id, request_id) where request_id is not null;
-- The due scan is a read across accounts.
create index integrations_due_idx on integrations (due_at) where due_at is not null;

create table authorizations (
    account_id uuid not null,
    state_hash bytea not null,
    provider text not null,
    organization text not null,
    integration_id uuid,
    sealed bytea not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    constraint authorizations_pkey primary key (account_id, state_hash),
    constraint authorizations_account_fkey foreign key (account_id) references accounts (account_id),
    constraint authorizations_provider_check check (provider in ('ZENDESK', 'SALESFORCE', 'PIPEDRIVE'))
);

comment on table authorizations is
    'An administrator was sent to a CRM to authorize this service, and has not come back yet. Ten minutes, one use.';
comment on column authorizations.account_id is 'Whose it is.';
comment on column authorizations.state_hash is 'SHA-256 of the secret part of the OAuth parameter `state`.';
comment on column authorizations.provider is 'The CRM.';
comment on column authorizations.organization is 'Empty: whatever organisation the administrator chooses.';
comment on column authorizations.integration_id is 'The integration to authorize again; null: a new one.';
comment on column authorizations.sealed is 'PKCE verifier and the request''s details, sealed by the vault.';
comment on column authorizations.created_at is 'When the administrator was sent.';
comment on column authorizations.expires_at is 'Not accepted from then on.';

create index authorizations_expires_idx on authorizations (account_id, expires_at);

create table sync_runs (
    account_id uuid not null,
    sync_run_id uuid not null,
    integration_id uuid not null,
    kind text not null,
    state text not null,
    request_id uuid,
    phase text not null,
    resume_point text,
    attempt integer not null default 0,
    stalled_attempts integer not null default 0,
    is_listed boolean not null default false,
    read_count bigint not null default 0,
    created_count bigint not null default 0,
    updated_count bigint not null default 0,
    deleted_count bigint not null default 0,
    skipped_count bigint not null default 0,
    rejected_count bigint not null default 0,
    estimated_total bigint not null default 0,
    records_per_minute bigint not null default 0,
    notices text[] not null default '{}',
    error text not null default '',
    created_at timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz,
    updated_at timestamptz not null,
    constraint sync_runs_pkey primary key (account_id, sync_run_id),
    constraint sync_runs_integration_fkey foreign key (account_id, integration_id)
        references integrations (account_id, integration_id),
    constraint sync_runs_kind_check check (kind in ('INITIAL', 'INCREMENTAL', 'SWEEP')),
    constraint sync_runs_state_check check (state in ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED'))
);

comment on table sync_runs is 'One pass over an integration.';
comment on column sync_runs.account_id is 'Whose it is.';
comment on column sync_runs.sync_run_id is 'Given by the service.';
comment on column sync_runs.integration_id is 'What it reads.';
comment on column sync_runs.kind is 'First copy, changes since the checkpoint, or everything again.';
comment on column sync_runs.state is 'Three of them are final.';
comment on column sync_runs.request_id is 'Of the TriggerSync or EnableSync that asked for it, for its repetition.';
comment on column sync_runs.phase is 'What it is doing, for people.';
comment on column sync_runs.resume_point is 'Where this run goes on after a crash; moves with each page.';
comment on column sync_runs.attempt is 'Times that a worker has taken it up.';
comment on column sync_runs.stalled_attempts is
    'Attempts since the resume point last moved: a run that crashes its worker again and again is stopped.';
comment on column sync_runs.is_listed is 'A sweep: the CRM has listed everything, what is left is to ask for what did not come.';
comment on column sync_runs.read_count is 'Records that the CRM sent, repeats included; the sum of the next five.';
comment on column sync_runs.created_count is 'Records first seen.';
comment on column sync_runs.updated_count is 'Records changed here.';
comment on column sync_runs.deleted_count is 'Records gone in the CRM, and so here.';
comment on column sync_runs.skipped_count is 'Records known already, or older than what is here.';
comment on column sync_runs.rejected_count is 'Records not understood.';
comment on column sync_runs.estimated_total is 'About how many records the run will read; 0: not known.';
comment on column sync_runs.records_per_minute is 'The most records that the CRM''s limit lets it read in a minute; 0: not known.';
comment on column sync_runs.notices is 'What the run could not see or do, in words.';
comment on column sync_runs.error is 'Why it failed, or the last failure that is retried; may be empty.';
comment on column sync_runs.created_at is 'When it was asked for.';
comment on column sync_runs.started_at is 'When a worker first took it up.';
comment on column sync_runs.finished_at is 'When it ended.';
comment on column sync_runs.updated_at is 'When it was last changed.';

-- The last wall against two runs at once.
create unique index sync_runs_active_key on sync_runs (account_id, integration_id) where state in ('QUEUED', 'RUNNING');
create unique index sync_runs_request_key on sync_runs (account_id, request_id) where request_id is not null;
create index sync_runs_integration_idx on sync_runs (account_id, integration_id, sync_run_id);

create table rejected_records (
    account_id uuid not null,
    integration_id uuid not null,
    object_type text not null,
    record_key text not null,
    reason text not null,
    fields text not null,
    is_copied boolean not null,
    hides_number boolean not null,
    is_retried boolean not null default false,
    is_unseen boolean not null default false,
    raw bytea,
    sync_run_id uuid not null,
    first_seen_at timestamptz not null,
    last_seen_at timestamptz not null,
    times_seen bigint not null,
    constraint rejected_records_pkey primary key (account_id, integration_id, object_type, record_key),
    constraint rejected_records_integration_fkey foreign key (account_id, integration_id)
        references integrations (account_id, integration_id)
);

comment on table rejected_records is
    'What a page could not give: a record that could not be read, or values that a copied one lacks. At most 1,000 of an integration, each for 30 days after it was last met.';
comment on column rejected_records.account_id is 'Whose it is.';
comment on column rejected_records.integration_id is 'The CRM organisation that it is in.';
comment on column rejected_records.object_type is 'What the CRM calls this kind of object.';
comment on column rejected_records.record_key is
    'The CRM''s id; of a record that does not say its own, `#` and a keyed fingerprint of its content.';
comment on column rejected_records.reason is 'Why, as `domain::rejected::RejectReason` writes it.';
comment on column rejected_records.fields is 'The fields that this is about, as the CRM calls them; may be empty.';
comment on column rejected_records.is_copied is 'The record itself was copied, without these values.';
comment on column rejected_records.hides_number is 'A phone number may be among what was not copied.';
comment on column rejected_records.is_retried is 'The next run asks the CRM for it again.';
comment on column rejected_records.is_unseen is 'The full read under way has not seen it yet.';
comment on column rejected_records.raw is
    'As the CRM sent it, at most 16 KiB, sealed by the vault. Null: it had no content, or an erasure has removed it.';
comment on column rejected_records.sync_run_id is 'The run that last met it.';
comment on column rejected_records.first_seen_at is 'When it was first met.';
comment on column rejected_records.last_seen_at is 'When it was last met.';
comment on column rejected_records.times_seen is 'By how many runs it was met.';

-- ------------------------------------------------------------------------------------------------------------------ contacts

create table contacts (
    account_id uuid not null,
    contact_id uuid not null,
    display_name text not null,
    organization text not null,
    emails text[] not null,
    is_placeholder boolean not null,
    version bigint not null default 1,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz,
    erased_at timestamptz,
    merged_into uuid,
    survivor_id uuid,
    constraint contacts_pkey primary key (account_id, contact_id),
    constraint contacts_alias_check check ((merged_into is null) = (survivor_id is null)),
    constraint contacts_alias_dead_check check (survivor_id is null or deleted_at is not null)
);

comment on table contacts is
    'A person. Dead rows stay as tombstones without personal data, so that an id once given out still leads somewhere.';
comment on column contacts.account_id is 'Whose it is.';
comment on column contacts.contact_id is 'Given by the service.';
comment on column contacts.display_name is 'As the CRM has it; empty of a placeholder and of a tombstone.';
comment on column contacts.organization is 'Where the person works, as the CRM has it; may be empty.';
comment on column contacts.emails is 'As the CRM has them.';
comment on column contacts.is_placeholder is 'Made by a call, and without any record yet.';
comment on column contacts.version is 'Grows with each change; names the change in the feed.';
comment on column contacts.created_at is 'With contact_id: the rank "first created". A merge gives the survivor the older one.';
comment on column contacts.updated_at is 'When it was last changed.';
comment on column contacts.deleted_at is 'When it ended; null: alive.';
comment on column contacts.erased_at is 'The person was erased; the tombstone says no more than that.';
comment on column contacts.merged_into is 'The contact that this one was merged into.';
comment on column contacts.survivor_id is 'The contact at the end of that chain.';

-- For pulling the aliases of a contact along when it is merged itself.
create index contacts_survivor_idx on contacts (account_id, survivor_id) where survivor_id is not null;
-- For giving back its own aliases to a contact that a restore revives.
create index contacts_merged_into_idx on contacts (account_id, merged_into) where merged_into is not null;
create index contacts_erased_idx on contacts (account_id, erased_at) where erased_at is not null;

create table external_refs (
    account_id uuid not null,
    integration_id uuid not null,
    object_type text not null,
    record_id text not null,
    contact_id uuid,
    is_live boolean not null,
    is_synced boolean not null,
    record_updated_at timestamptz,
    role text not null,
    url text not null,
    region text not null default '',
    fingerprint bigint,
    successor_type text,
    successor_id text,
    seen_by_sweep bigint not null default 0,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint external_refs_pkey primary key (account_id, integration_id, object_type, record_id),
    constraint external_refs_integration_fkey foreign key (account_id, integration_id)
        references integrations (account_id, integration_id),
    constraint external_refs_contact_fkey foreign key (account_id, contact_id) references contacts (account_id, contact_id),
    constraint external_refs_live_check check (not is_live or contact_id is not null),
    constraint external_refs_successor_check check ((successor_type is null) = (successor_id is null)),
    constraint external_refs_successor_gone_check check (successor_id is null or not is_live)
);

comment on table external_refs is 'One object in a CRM: which contact it is.';
comment on column external_refs.account_id is 'Whose it is.';
comment on column external_refs.integration_id is 'The CRM organisation that it is in.';
comment on column external_refs.object_type is 'What the CRM calls this kind of object.';
comment on column external_refs.record_id is 'The CRM''s id.';
comment on column external_refs.contact_id is 'Null: first seen as deleted.';
comment on column external_refs.is_live is 'False: the CRM has said that it is gone.';
comment on column external_refs.is_synced is 'False: known from a click or a report only; any sync wins over it.';
comment on column external_refs.record_updated_at is 'The CRM''s update time: an older copy never overwrites a newer one.';
comment on column external_refs.role is 'The CRM''s role of the record; empty: it has none.';
comment on column external_refs.url is 'Where a browser shows it; may be empty.';
comment on column external_refs.region is
    'The country of the record''s address, by which its numbers are read: ISO 3166-1 alpha-2, empty if the CRM does not say.';
comment on column external_refs.fingerprint is 'Of everything that a sync copies; equal: nothing to write.';
comment on column external_refs.successor_type is 'The type of the record that this one was merged into or (a Lead) converted into.';
comment on column external_refs.successor_id is 'That record''s id, as the CRM names it.';
comment on column external_refs.seen_by_sweep is 'The last sweep that saw it.';
comment on column external_refs.created_at is 'When it was first seen.';
comment on column external_refs.updated_at is 'When it was last changed.';

create index external_refs_contact_idx on external_refs (account_id, contact_id) where contact_id is not null;
-- A successor that comes later finds who waits for it.
create index external_refs_successor_idx on external_refs (account_id, integration_id, successor_type, successor_id)
    where successor_id is not null;

create table phone_numbers (
    account_id uuid not null,
    contact_id uuid not null,
    integration_id uuid not null,
    object_type text not null,
    record_id text not null,
    position smallint not null,
    raw text not null,
    region text not null,
    e164 bigint,
    local_digits bigint,
    key_version smallint not null,
    extension text not null,
    label text not null,
    is_placeholder boolean not null,
    contact_created_at timestamptz not null,
    constraint phone_numbers_pkey primary key (account_id, contact_id, integration_id, object_type, record_id, position),
    -- Looked at when the transaction commits: a placeholder and its number are made by one statement, whose parts a distributed
    -- database runs one after the other.
    constraint phone_numbers_contact_fkey foreign key (account_id, contact_id) references contacts (account_id, contact_id)
        deferrable initially deferred,
    constraint phone_numbers_e164_check check (e164 > 0),
    constraint phone_numbers_local_digits_check check (local_digits > 0)
);

comment on table phone_numbers is
    'A number, owned by the ref that brought it, or by a placeholder (integration_id zero, object_type and record_id empty).';
comment on column phone_numbers.account_id is 'Whose it is.';
comment on column phone_numbers.contact_id is 'Who has it.';
comment on column phone_numbers.integration_id is 'Of the ref that brought it, with the next two.';
comment on column phone_numbers.object_type is 'See integration_id.';
comment on column phone_numbers.record_id is 'See integration_id.';
comment on column phone_numbers.position is 'Its place among the ref''s numbers, from 0.';
comment on column phone_numbers.raw is 'As the CRM or the call wrote it.';
comment on column phone_numbers.region is 'The region that the raw text was read with; empty: none was needed or known.';
comment on column phone_numbers.e164 is 'E.164 digits; null: not a number that can be called.';
comment on column phone_numbers.local_digits is
    'The digits of a number written without a country, where another region, or none, may be meant; for the weaker tiers.';
comment on column phone_numbers.key_version is 'The rules by which it was read.';
comment on column phone_numbers.extension is 'Digits to dial after the number; may be empty.';
comment on column phone_numbers.label is 'What the CRM calls it; may be empty.';
comment on column phone_numbers.is_placeholder is
    'The contact''s rank, kept here too: ordering a shared line by a join cost 160 ms instead of 0.4 ms.';
comment on column phone_numbers.contact_created_at is 'See is_placeholder.';

-- The look-up of a call: equality on the first two, then the order of the answer.
create index phone_numbers_lookup_idx on phone_numbers (account_id, e164, is_placeholder, contact_created_at, contact_id)
    where e164 is not null;
-- Exactly one stranger to a number, however many calls race.
create unique index phone_numbers_placeholder_key on phone_numbers (account_id, e164) where is_placeholder;
create index phone_numbers_local_idx on phone_numbers (account_id, local_digits) where local_digits is not null;

-- --------------------------------------------------------------------------------------------------------------------- calls

create table calls (
    account_id uuid not null,
    call_id text not null,
    e164 bigint,
    raw text,
    direction text not null,
    outcome text,
    contact_id uuid,
    tier text,
    selection_id uuid,
    selected_by text,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint calls_pkey primary key (account_id, call_id),
    constraint calls_call_id_check check (char_length(call_id) between 1 and 128),
    constraint calls_direction_check check (direction in ('INBOUND', 'OUTBOUND')),
    constraint calls_outcome_check check (outcome in
        ('MATCHED', 'AMBIGUOUS', 'CREATED', 'NOT_FOUND', 'NOT_KNOWN_YET', 'WITHHELD', 'UNPARSEABLE'))
);

comment on table calls is
    'What the router told us of one call, the answer given, and the contact it is attributed to. Kept 90 days. No foreign keys here: a contact that a call names becomes a tombstone, and the call path pays for no check.';
comment on column calls.account_id is 'Whose it is.';
comment on column calls.call_id is 'Given by the router; 1 to 128 characters.';
comment on column calls.e164 is 'The key of the number that was asked for; null: it has none.';
comment on column calls.raw is 'Only where there is no key: tells a reused call id apart.';
comment on column calls.direction is 'Who called whom.';
comment on column calls.outcome is 'Null: known from a click only, not asked yet.';
comment on column calls.contact_id is 'The contact of the answer.';
comment on column calls.tier is 'How sure the answer was.';
comment on column calls.selection_id is 'The contact that an agent, or a click, chose.';
comment on column calls.selected_by is 'Which of the two.';
comment on column calls.created_at is 'When it was first heard of.';
comment on column calls.updated_at is 'When it was last changed.';

-- For forgetting old calls. Not by account first: on a table without statistics the planner took such an index for a call's id.
create index calls_created_idx on calls (created_at);
-- For erasing a person.
create index calls_number_idx on calls (account_id, e164) where e164 is not null;
create index calls_contact_idx on calls (account_id, contact_id) where contact_id is not null;
create index calls_selection_idx on calls (account_id, selection_id) where selection_id is not null;

create table expected_calls (
    account_id uuid not null,
    expected_call_id uuid not null,
    e164 bigint not null,
    contact_id uuid not null,
    agent_id text not null,
    created_at timestamptz not null,
    consumed_at timestamptz,
    constraint expected_calls_pkey primary key (account_id, expected_call_id)
);

comment on table expected_calls is 'An agent has clicked a number and the call has not come yet. Good for five minutes.';
comment on column expected_calls.account_id is 'Whose it is.';
comment on column expected_calls.expected_call_id is 'Given by the service.';
comment on column expected_calls.e164 is 'The number''s key.';
comment on column expected_calls.contact_id is 'The contact that was clicked.';
comment on column expected_calls.agent_id is 'Empty: the adapter did not say.';
comment on column expected_calls.created_at is 'When it was clicked.';
comment on column expected_calls.consumed_at is 'When its call came; null: it has not.';

create index expected_calls_number_idx on expected_calls (account_id, e164, created_at) where consumed_at is null;
-- By account first: planned on an empty table, the look-up of a click took the other order, and read every account's.
create index expected_calls_created_idx on expected_calls (account_id, created_at);
-- For erasing a person.
create index expected_calls_contact_idx on expected_calls (account_id, contact_id);

create table selections (
    account_id uuid not null,
    e164 bigint not null,
    contact_id uuid not null,
    selected_at timestamptz not null,
    constraint selections_pkey primary key (account_id, e164)
);

comment on table selections is 'The contact that an agent last chose for a number; for the policy LAST_SELECTED. Kept 90 days.';
comment on column selections.account_id is 'Whose it is.';
comment on column selections.e164 is 'The number''s key.';
comment on column selections.contact_id is 'Who was chosen.';
comment on column selections.selected_at is 'When.';

create index selections_selected_idx on selections (account_id, selected_at);
-- For erasing a person.
create index selections_contact_idx on selections (account_id, contact_id);

create table requester_decisions (
    account_id uuid not null,
    call_id text not null,
    integration_id uuid not null,
    decision_id uuid not null,
    version bigint not null,
    outcome text not null,
    object_type text,
    record_id text,
    evidence text,
    contact_id uuid,
    e164 bigint,
    is_stale boolean not null,
    decided_at timestamptz not null,
    constraint requester_decisions_pkey primary key (account_id, call_id, integration_id),
    constraint requester_decisions_outcome_check check (outcome in ('RESOLVED', 'AMBIGUOUS', 'NONE')),
    constraint requester_decisions_record_check check (
        (outcome = 'RESOLVED') = (record_id is not null) and (record_id is null) = (object_type is null)
        and (record_id is null) = (evidence is null)
    )
);

comment on table requester_decisions is 'To whom an automation was told to attribute a call, and why; kept as long as the call.';
comment on column requester_decisions.account_id is 'Whose it is.';
comment on column requester_decisions.call_id is 'The call.';
comment on column requester_decisions.integration_id is 'In which CRM organisation.';
comment on column requester_decisions.decision_id is 'Names it in the feed, with the version.';
comment on column requester_decisions.version is 'Grows with each correction.';
comment on column requester_decisions.outcome is 'RESOLVED, AMBIGUOUS or NONE.';
comment on column requester_decisions.object_type is 'Of the record named, with the next two; null: none was.';
comment on column requester_decisions.record_id is 'The record''s id in the CRM.';
comment on column requester_decisions.evidence is 'Why this record.';
comment on column requester_decisions.contact_id is 'The call''s contact by which it was decided.';
comment on column requester_decisions.e164 is 'The call''s number.';
comment on column requester_decisions.is_stale is
    'Something that it rests on may have changed since; also of a fresh one, which may have missed a change just committed.';
comment on column requester_decisions.decided_at is 'When.';

create index requester_decisions_stale_idx on requester_decisions (account_id, decided_at) where is_stale;
create index requester_decisions_contact_idx on requester_decisions (account_id, contact_id) where contact_id is not null;
create index requester_decisions_record_idx on requester_decisions (account_id, integration_id, object_type, record_id)
    where record_id is not null;
create index requester_decisions_number_idx on requester_decisions (account_id, e164) where e164 is not null;

create table requester_evidence (
    account_id uuid not null,
    call_id text not null,
    integration_id uuid not null,
    contact_id uuid not null,
    constraint requester_evidence_pkey primary key (account_id, call_id, integration_id, contact_id),
    constraint requester_evidence_decision_fkey foreign key (account_id, call_id, integration_id)
        references requester_decisions (account_id, call_id, integration_id) on delete cascade
);

comment on table requester_evidence is 'The contacts that a decision rests on: a change of one makes it stale.';
comment on column requester_evidence.account_id is 'Whose it is.';
comment on column requester_evidence.call_id is 'Of the decision.';
comment on column requester_evidence.integration_id is 'Of the decision.';
comment on column requester_evidence.contact_id is 'One of the contacts.';

create index requester_evidence_contact_idx on requester_evidence (account_id, contact_id);

-- ---------------------------------------------------------------------------------------------------------------------- feed

create table changes (
    account_id uuid not null,
    subject_id uuid not null,
    version bigint not null,
    kind text not null,
    number bigint,
    survivor_id uuid,
    correction jsonb,
    created_at timestamptz not null,
    constraint changes_pkey primary key (account_id, subject_id, version),
    constraint changes_kind_check check (kind in ('CREATED', 'CHANGED', 'DELETED', 'MERGED', 'ADOPTED', 'ERASED', 'CORRECTED')),
    constraint changes_survivor_check check ((kind in ('MERGED', 'ADOPTED')) = (survivor_id is not null)),
    constraint changes_correction_check check ((kind = 'CORRECTED') = (correction is not null))
);

comment on table changes is
    'What has become of contacts and of earlier answers, in the order in which readers see it. Written without a number in the change''s own transaction; numbered once it is committed. Nothing personal is in it. Kept 30 days.';
comment on column changes.account_id is 'Whose it is.';
comment on column changes.subject_id is 'The contact; of a correction, the decision.';
comment on column changes.version is 'The contact''s (the decision''s) version that this change made.';
comment on column changes.kind is 'What has become of it.';
comment on column changes.number is 'Its place in the feed; null: not published yet.';
comment on column changes.survivor_id is 'Of a contact merged or adopted: the one that goes on.';
comment on column changes.correction is 'What a correction says.';
comment on column changes.created_at is 'When.';

create unique index changes_number_key on changes (account_id, number) where number is not null;
create index changes_unpublished_idx on changes (account_id, created_at) where number is null;
create index changes_corrected_idx on changes (account_id, created_at) where kind = 'CORRECTED';

create table feeds (
    account_id uuid not null,
    last_number bigint not null,
    forgotten_through bigint not null,
    origin text,
    epoch text,
    epoch_base bigint not null default 0,
    constraint feeds_pkey primary key (account_id),
    constraint feeds_account_fkey foreign key (account_id) references accounts (account_id)
);

comment on table feeds is 'The counter of an account''s feed; its row lock makes one publisher of many.';
comment on column feeds.account_id is 'Whose it is.';
comment on column feeds.last_number is 'The last number given.';
comment on column feeds.forgotten_through is 'Changes up to this number are not kept any more.';
comment on column feeds.origin is
    'Which database, on which server and of which timeline, gave the numbers; null: not known, or `contact-sync feed new-epoch`.';
comment on column feeds.epoch is 'Renewed with each other origin; readers name it. Null: nothing was ever published.';
comment on column feeds.epoch_base is 'Numbers of this epoch are above this one; 0: the first epoch.';

-- ------------------------------------------------------------------------------------------------------------------- erasure

create table suppression_keys (
    account_id uuid not null,
    sealed bytea not null,
    constraint suppression_keys_pkey primary key (account_id),
    constraint suppression_keys_account_fkey foreign key (account_id) references accounts (account_id)
);

comment on table suppression_keys is 'The secret by which an account''s erased records are known again.';
comment on column suppression_keys.account_id is 'Whose it is.';
comment on column suppression_keys.sealed is 'Sealed by the vault.';

create table suppressions (
    account_id uuid not null,
    mark bytea not null,
    created_at timestamptz not null,
    constraint suppressions_pkey primary key (account_id, mark)
);

comment on table suppressions is 'A record that was erased and must not come back.';
comment on column suppressions.account_id is 'Whose it is.';
comment on column suppressions.mark is 'HMAC-SHA256 of integration, object type and record id.';
comment on column suppressions.created_at is 'When it was erased.';
