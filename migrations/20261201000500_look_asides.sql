-- What calls that found nobody have had CRMs asked for.

create table look_asides (
    account_id uuid not null,
    integration_id uuid not null,
    asked bigint not null,
    answered bigint not null,
    asked_at timestamptz not null,
    mode text not null,
    e164 bigint,
    has_failed boolean not null,
    day date not null,
    day_cost bigint not null,
    day_limit bigint,
    constraint look_asides_pkey primary key (account_id, integration_id),
    constraint look_asides_mode_check check (mode in ('DELTA', 'SEARCH'))
);

comment on table look_asides is
    'The last look into a CRM for a call that found nobody: one row of an integration. While asked is above answered it is under way.';
comment on column look_asides.account_id is 'Whose it is.';
comment on column look_asides.integration_id is 'The integration.';
comment on column look_asides.asked is 'Number of the last look.';
comment on column look_asides.answered is 'Number of the last look that is over.';
comment on column look_asides.asked_at is 'When it was asked for: the next one comes 5 s later.';
comment on column look_asides.mode is 'DELTA: what has changed since the last run. SEARCH: one number.';
comment on column look_asides.e164 is 'SEARCH: the number looked for; null once it is over.';
comment on column look_asides.has_failed is 'The CRM did not answer the last one.';
comment on column look_asides.day is 'UTC, of day_cost.';
comment on column look_asides.day_cost is 'What the looks of that day cost, in the CRM''s unit.';
comment on column look_asides.day_limit is 'What the CRM gives a day, as it last said; null: not known.';

update schema_compatibility set oldest_program = '0.1.0';
