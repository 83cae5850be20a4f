-- Who did what: one row for each write that was asked for over the API.

create table audit_events (
    account_id uuid not null,
    called_at timestamptz not null,
    audit_event_id uuid not null,
    subject text,
    method text not null,
    integration_id uuid,
    sync_run_id uuid,
    contact_id uuid,
    fields text[] not null,
    result text not null,
    reason text,
    request_id uuid not null,
    left_out bigint not null,
    constraint audit_events_pkey primary key (account_id, called_at, audit_event_id),
    constraint audit_events_result_check check (result in ('DONE', 'UNCHANGED', 'REFUSED')),
    constraint audit_events_reason_check check ((result = 'REFUSED') = (reason is not null))
);

comment on table audit_events is
    'What was asked of an account, by whom, and what came of it. Ids and fixed words alone. Listed, and forgotten, by its key.';
comment on column audit_events.account_id is
    'Whose it is; the nil UUID: refused tokens, and what was asked of accounts that are not there or not the caller''s.';
comment on column audit_events.called_at is 'When the call came.';
comment on column audit_events.audit_event_id is 'Version 7. One call leaves one event at most.';
comment on column audit_events.subject is
    'Whose token it was: its `sub`, or a hash of it if that has an `@`; null: the token was refused.';
comment on column audit_events.method is 'Of the API, without its service; AuthorizationCallback: back from a CRM.';
comment on column audit_events.integration_id is 'Upon which integration. It may be gone.';
comment on column audit_events.sync_run_id is 'Which run was started, joined or stopped. It may be gone.';
comment on column audit_events.contact_id is 'Upon which contact.';
comment on column audit_events.fields is 'What the call set, by the names of the fields; never a value.';
comment on column audit_events.result is 'As `domain::audit::AuditResult` writes it. DONE was committed with what was done.';
comment on column audit_events.reason is 'Of REFUSED: as the caller was told.';
comment on column audit_events.request_id is 'The call''s, as the log has it.';
comment on column audit_events.left_out is 'Of REFUSED: how many more there were that are not written down.';

update schema_compatibility set oldest_program = '0.1.0';
