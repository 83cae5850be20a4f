-- How long a call that finds nobody may wait while the account's CRMs are asked.

alter table accounts add column look_aside_ms integer not null default 0;

comment on column accounts.look_aside_ms is
    'Most milliseconds that a call from an unknown number waits while the account''s CRMs are asked: 200 to 1500; 0: it does not.';

update schema_compatibility set oldest_program = '0.1.0';
