-- Identity that can be trusted: a policy for several matches, weaker tiers, a feed of changes with corrections, erasure.

alter table accounts
    -- Which of several contacts with a number comes first, as `domain::account::MatchPolicy` writes it.
    add column match_policy text not null default 'FIRST_CREATED',
    add column preferred_integration_id uuid,
    -- The rules by which the account's stored numbers were read; older than the program's: they are read again.
    add column key_version smallint not null default 1,
    -- When the regions last changed; null: the stored numbers were read with those of today.
    add column reread_requested_at timestamptz,
    -- Reading again goes on behind this contact; null: it begins.
    add column reread_after uuid,
    add constraint accounts_match_policy_check
        check (match_policy in ('FIRST_CREATED', 'LAST_SELECTED', 'LAST_UPDATED', 'PREFERRED_INTEGRATION')),
    add constraint accounts_preferred_check
        check ((match_policy = 'PREFERRED_INTEGRATION') = (preferred_integration_id is not null));

alter table contacts
    -- Grows with each change; names the change in the feed.
    add column version bigint not null default 1,
    -- The person was erased; the tombstone says no more than that.
    add column erased_at timestamptz;

create index contacts_erased_idx on contacts (account_id, erased_at) where erased_at is not null;

alter table phone_numbers
    -- The digits of a number written without a country, where another region, or none, may be meant; for the weaker tiers.
    add column local_digits bigint,
    add constraint phone_numbers_local_digits_check check (local_digits > 0);

create index phone_numbers_local_idx on phone_numbers (account_id, local_digits) where local_digits is not null;

-- The contact that an agent last chose for a number; for the policy LAST_SELECTED. Kept 90 days.
create table selections (
    account_id uuid not null,
    e164 bigint not null,
    contact_id uuid not null,
    selected_at timestamptz not null,
    constraint selections_pkey primary key (account_id, e164)
);

create index selections_selected_idx on selections (account_id, selected_at);

-- For erasing a person.
create index selections_contact_idx on selections (account_id, contact_id);
create index calls_number_idx on calls (account_id, e164) where e164 is not null;
create index calls_contact_idx on calls (account_id, contact_id) where contact_id is not null;
create index calls_selection_idx on calls (account_id, selection_id) where selection_id is not null;
create index expected_calls_contact_idx on expected_calls (account_id, contact_id);

-- By account first: planned on an empty table, the look-up of a click took the old one, and read every account's.
drop index expected_calls_created_idx;
create index expected_calls_created_idx on expected_calls (account_id, created_at);

-- What has become of contacts and of earlier answers, in the order in which readers see it. Written without a number in the change's
-- own transaction; numbered once it is committed. Nothing personal is in it. Kept 30 days.
create table changes (
    account_id uuid not null,
    -- The contact; of a correction, the decision.
    subject_id uuid not null,
    -- The contact's (the decision's) version that this change made.
    version bigint not null,
    kind text not null,
    -- Null: not published yet.
    number bigint,
    -- Of a contact merged or adopted: the one that goes on.
    survivor_id uuid,
    -- What a correction says.
    correction jsonb,
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
    account_id uuid not null,
    last_number bigint not null,
    -- Changes up to this number are not kept any more.
    forgotten_through bigint not null,
    constraint feeds_pkey primary key (account_id),
    constraint feeds_account_fkey foreign key (account_id) references accounts (account_id)
);

-- To whom an automation was told to attribute a call, and why; kept as long as the call.
create table requester_decisions (
    account_id uuid not null,
    call_id text not null,
    integration_id uuid not null,
    -- Names it in the feed, with the version.
    decision_id uuid not null,
    version bigint not null,
    -- RESOLVED, AMBIGUOUS or NONE.
    outcome text not null,
    object_type text,
    record_id text,
    evidence text,
    -- The call's contact by which it was decided.
    contact_id uuid,
    -- The call's number.
    e164 bigint,
    -- Something that it rests on may have changed since; also of a fresh one, which may have missed a change just committed.
    is_stale boolean not null,
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
    account_id uuid not null,
    call_id text not null,
    integration_id uuid not null,
    contact_id uuid not null,
    constraint requester_grounds_pkey primary key (account_id, call_id, integration_id, contact_id),
    constraint requester_grounds_decision_fkey foreign key (account_id, call_id, integration_id)
        references requester_decisions (account_id, call_id, integration_id) on delete cascade
);

create index requester_grounds_contact_idx on requester_grounds (account_id, contact_id);

-- The secret by which an account's erased records are known again; sealed by the vault.
create table suppression_keys (
    account_id uuid not null,
    sealed bytea not null,
    constraint suppression_keys_pkey primary key (account_id),
    constraint suppression_keys_account_fkey foreign key (account_id) references accounts (account_id)
);

-- A record that was erased and must not come back: HMAC-SHA256 of integration, object type and record id.
create table suppressions (
    account_id uuid not null,
    mark bytea not null,
    created_at timestamptz not null,
    constraint suppressions_pkey primary key (account_id, mark)
);

alter table integrations
    -- More is to be copied than before, and has not been yet.
    add column is_widened boolean not null default false;

create or replace view integration_freshness as
select
    i.account_id,
    i.integration_id,
    json_build_object(
        'integration_id', i.integration_id, 'provider', i.provider, 'is_enabled', i.is_enabled, 'is_sync_on', i.is_sync_on,
        'hold', i.hold, 'first_started_at', i.first_started_at, 'last_completed_at', i.last_completed_at,
        'known_through', i.known_through, 'period_seconds', i.period_seconds, 'is_widened', i.is_widened
    ) as details
from integrations i;
