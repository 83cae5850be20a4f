-- Salesforce and Pipedrive beside Zendesk: options, access tokens, sweeps, the brake on deletions, merges that the CRM names.
alter table integrations
    -- What is copied and mirrored, as `domain::integration::Options` writes it; what is absent has its default.
    add column options jsonb not null default '{}',
    -- The access token got by the credentials, sealed by the vault, and its number.
    add column access bytea,
    add column access_version bigint not null default 0,
    -- Who is getting a new access token, and until when (the database's clock) that may last.
    add column refresh_claim uuid,
    add column refresh_claimed_until timestamptz,
    -- When the next pass is a sweep: reads everything, and asks for what did not come.
    add column sweep_due_at timestamptz,
    -- The sweep under way, or the last one. Stays when a later run goes on with it.
    add column sweep_number bigint not null default 0,
    -- Deletions that the last sweep did not make because they were too many, and how many somebody has confirmed since.
    add column held_deletions bigint,
    add column confirmed_deletions bigint;

alter table sync_runs
    -- What the run could not see or do, in words.
    add column notices text[] not null default '{}',
    -- A sweep: the CRM has listed everything, what is left is to ask for what did not come.
    add column is_listed boolean not null default false,
    drop constraint sync_runs_kind_check,
    add constraint sync_runs_kind_check check (kind in ('INITIAL', 'INCREMENTAL', 'SWEEP'));

alter table external_refs
    -- The record that this one was merged into or (a Lead) converted into, as the CRM names it.
    add column successor_type text,
    add column successor_id text,
    -- The last sweep that met it.
    add column met_by_sweep bigint not null default 0,
    add constraint external_refs_successor_check check ((successor_type is null) = (successor_id is null)),
    add constraint external_refs_successor_gone_check check (successor_id is null or not is_live);

-- A successor that comes later finds who waits for it.
create index external_refs_successor_idx on external_refs (account_id, integration_id, successor_type, successor_id)
    where successor_id is not null;

-- For giving back its own aliases to a contact that a restore revives.
create index contacts_merged_into_idx on contacts (account_id, merged_into) where merged_into is not null;

-- An administrator was sent to a CRM to authorize this service, and has not come back yet. Ten minutes, one use.
create table authorizations (
    account_id uuid not null,
    -- SHA-256 of the secret part of the OAuth parameter `state`.
    state_hash bytea not null,
    provider text not null,
    -- Empty: whatever organisation the administrator chooses.
    organization text not null,
    -- The integration to authorize again; null: a new one.
    integration_id uuid,
    -- PKCE verifier and the request's details, sealed by the vault.
    sealed bytea not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    constraint authorizations_pkey primary key (account_id, state_hash),
    constraint authorizations_account_fkey foreign key (account_id) references accounts (account_id),
    constraint authorizations_provider_check check (provider in ('ZENDESK', 'SALESFORCE', 'PIPEDRIVE'))
);

create index authorizations_expires_idx on authorizations (account_id, expires_at);
