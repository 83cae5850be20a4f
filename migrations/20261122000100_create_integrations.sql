-- An account's link to one CRM organisation: options, sealed credentials, checkpoint, and the lease of its worker.
create table integrations (
    account_id uuid not null,
    integration_id uuid not null,
    provider text not null,
    organization text not null,
    -- False after DisableSync; enabling the same organisation again takes this row up again.
    is_enabled boolean not null,
    is_sync_on boolean not null,
    -- DisableSync with PURGE: a worker removes the copied data in batches, then clears this.
    is_purging boolean not null default false,
    period_seconds integer not null,
    -- Sealed by the vault; the associated data names account, integration and field.
    credentials bytea,
    request_id uuid,
    -- Why no pass is started although sync is on.
    hold text,
    hold_reason text,
    -- Where the next pass starts; moves with the last page of a pass only.
    checkpoint text,
    -- Every change that the CRM made until then is here (the CRM's clock).
    known_through timestamptz,
    first_started_at timestamptz,
    last_completed_at timestamptz,
    -- When the next pass may start; null: none. Kept while a pass runs, so that a crash leaves it due.
    due_at timestamptz,
    failures integer not null default 0,
    -- Fences every write of a run: claimed, cancelled and disabled each add one.
    lease_number bigint not null default 0,
    -- By the database's clock, and nothing else is.
    lease_until timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint integrations_pkey primary key (account_id, integration_id),
    constraint integrations_account_fkey foreign key (account_id) references accounts (account_id),
    constraint integrations_provider_check check (provider in ('ZENDESK', 'SALESFORCE', 'PIPEDRIVE')),
    constraint integrations_hold_check check (hold in ('PAUSED', 'QUOTA_PAUSED', 'AUTH_FAILED')),
    constraint integrations_period_check check (period_seconds between 1 and 86400),
    constraint integrations_organization_check check (char_length(organization) between 1 and 100)
);

create unique index integrations_organization_key on integrations (account_id, provider, organization);
create unique index integrations_request_key on integrations (account_id, request_id) where request_id is not null;
-- The due scan is the one read across accounts.
create index integrations_due_idx on integrations (due_at) where due_at is not null;

-- One pass over an integration.
create table sync_runs (
    account_id uuid not null,
    sync_run_id uuid not null,
    integration_id uuid not null,
    kind text not null,
    state text not null,
    request_id uuid,
    phase text not null,
    -- Where this run goes on after a crash; moves with each page.
    resume_point text,
    attempt integer not null default 0,
    -- Attempts since the resume point last moved: a run that crashes its worker again and again is stopped.
    stalled_attempts integer not null default 0,
    read_count bigint not null default 0,
    created_count bigint not null default 0,
    updated_count bigint not null default 0,
    deleted_count bigint not null default 0,
    skipped_count bigint not null default 0,
    rejected_count bigint not null default 0,
    estimated_total bigint not null default 0,
    error text not null default '',
    created_at timestamptz not null,
    started_at timestamptz,
    finished_at timestamptz,
    updated_at timestamptz not null,
    constraint sync_runs_pkey primary key (account_id, sync_run_id),
    constraint sync_runs_integration_fkey foreign key (account_id, integration_id)
        references integrations (account_id, integration_id),
    constraint sync_runs_kind_check check (kind in ('INITIAL', 'INCREMENTAL')),
    constraint sync_runs_state_check check (state in ('QUEUED', 'RUNNING', 'SUCCEEDED', 'FAILED', 'CANCELLED'))
);

-- The last wall against two passes at once.
create unique index sync_runs_active_key on sync_runs (account_id, integration_id) where state in ('QUEUED', 'RUNNING');
create unique index sync_runs_request_key on sync_runs (account_id, request_id) where request_id is not null;
create index sync_runs_integration_idx on sync_runs (account_id, integration_id, sync_run_id);

-- What an answer says of an integration: read in the same statement as the contacts that it speaks of.
create view integration_freshness as
select
    i.account_id,
    i.integration_id,
    json_build_object(
        'integration_id', i.integration_id, 'provider', i.provider, 'is_enabled', i.is_enabled, 'is_sync_on', i.is_sync_on,
        'hold', i.hold, 'first_started_at', i.first_started_at, 'last_completed_at', i.last_completed_at,
        'known_through', i.known_through, 'period_seconds', i.period_seconds
    ) as details
from integrations i;
