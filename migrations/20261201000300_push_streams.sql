-- Who follows a CRM's stream of changes, and how far it was read.

create table push_streams (
    account_id uuid not null,
    integration_id uuid not null,
    due_at timestamptz,
    lease_number bigint not null default 0,
    lease_until timestamptz,
    places jsonb not null default '{}',
    rested_at timestamptz,
    constraint push_streams_pkey primary key (account_id, integration_id)
);

comment on table push_streams is
    'Who follows the stream of changes of an integration''s CRM. A row is never deleted: its lease''s number must not begin anew.';
comment on column push_streams.account_id is 'Whose it is.';
comment on column push_streams.integration_id is 'The integration.';
comment on column push_streams.due_at is 'When somebody is to follow; null: nobody is.';
comment on column push_streams.lease_number is 'Grows with each claim and each end of one: it fences.';
comment on column push_streams.lease_until is 'Until when somebody follows, by the database''s clock; null: nobody does.';
comment on column push_streams.places is 'After which change to go on, by kind of object: the CRM''s mark in base64. None: from now on, and a poll covers the rest.';
comment on column push_streams.rested_at is 'When somebody ceased to follow; null: not yet.';

-- What is due is looked for across accounts.
create index push_streams_due_idx on push_streams (due_at) where due_at is not null;

update schema_compatibility set oldest_program = '0.1.0';
