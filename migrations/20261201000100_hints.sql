-- Records that may have changed: what an event, a miss or an operator says before a poll does.

create table hints (
    account_id uuid not null,
    integration_id uuid not null,
    object_type text not null,
    record_id text not null,
    reason text not null,
    event_time timestamptz,
    record_updated_at timestamptz,
    successor_type text,
    successor_id text,
    first_at timestamptz not null,
    last_at timestamptz not null,
    write_id uuid not null,
    attempts integer not null,
    not_before timestamptz not null,
    constraint hints_pkey primary key (account_id, integration_id, object_type, record_id),
    constraint hints_whole_check check ((object_type = '') = (record_id = '')),
    constraint hints_successor_check check ((successor_type is null) = (successor_id is null))
);

comment on table hints is
    'A record that may have changed in its CRM: to be asked for. No data, and no promise: polls find everything without it. A few hundred of an integration.';
comment on column hints.account_id is 'Whose it is.';
comment on column hints.integration_id is 'The CRM organisation that the record is in.';
comment on column hints.object_type is 'What the CRM calls this kind of object; empty: the whole integration, which is to be polled.';
comment on column hints.record_id is 'The CRM''s id; empty: the whole integration.';
comment on column hints.reason is 'Who said so last, as `domain::hint::HintReason` writes it.';
comment on column hints.event_time is 'The latest change that was told, by the CRM''s clock; null: nobody said when.';
comment on column hints.record_updated_at is 'The CRM''s update time that the record has at least; null: not told.';
comment on column hints.successor_type is 'The kind of the record that this one was merged into, as an event said.';
comment on column hints.successor_id is 'The id of the record that this one was merged into, as an event said.';
comment on column hints.first_at is 'When it was first written.';
comment on column hints.last_at is 'When it was last written.';
comment on column hints.write_id is 'Of the last write: what was taken is deleted by it, so that a hint which came meanwhile stays.';
comment on column hints.attempts is 'How often the CRM was asked and had no news yet.';
comment on column hints.not_before is 'Not looked at before then.';

-- What is due is looked for across accounts.
create index hints_due_idx on hints (not_before);

update schema_compatibility set oldest_program = '0.1.0';
