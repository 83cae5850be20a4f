-- How a CRM pushes its changes here: one row for each integration that has been set up so.

create table push_channels (
    account_id uuid not null,
    integration_id uuid not null,
    state text not null,
    notice text,
    hook_number bigint not null,
    hook_id text,
    secret bytea not null,
    checked_at timestamptz,
    last_event_at timestamptz,
    last_lag_ms bigint,
    suspected_losses bigint not null default 0,
    constraint push_channels_pkey primary key (account_id, integration_id),
    constraint push_channels_hook_key unique (account_id, hook_number),
    constraint push_channels_state_check check (state in ('ACTIVE', 'DEGRADED', 'UNAVAILABLE'))
);

comment on table push_channels is
    'How the CRM of an integration pushes its changes here. None: it does not. Polling goes on whatever is here.';
comment on column push_channels.account_id is 'Whose it is.';
comment on column push_channels.integration_id is 'The integration.';
comment on column push_channels.state is 'As the last look at it found, as `domain::hook::PushState` writes it.';
comment on column push_channels.notice is 'Why it is so, and what to do; null: nothing to say.';
comment on column push_channels.hook_number is 'Random; with the account''s id and a keyed tag it is the address that the CRM sends to.';
comment on column push_channels.hook_id is 'The CRM''s id of the webhook; null: not made yet.';
comment on column push_channels.secret is 'By which the CRM shows that an event is its own; sealed by the vault.';
comment on column push_channels.checked_at is 'When the CRM was last asked about the webhook; null: not yet.';
comment on column push_channels.last_event_at is 'Of the newest event, by the CRM''s clock; null: none has come.';
comment on column push_channels.last_lag_ms is 'From that event''s time to its arrival.';
comment on column push_channels.suspected_losses is 'Events that were lost, as far as it is known.';

update schema_compatibility set oldest_program = '0.1.0';
