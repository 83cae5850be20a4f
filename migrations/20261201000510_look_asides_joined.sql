-- A search looks for the numbers of all calls that wait for it.

alter table look_asides add column joined bigint[] not null default '{}';
alter table look_asides add column has_begun boolean not null default false;

comment on column look_asides.e164 is 'SEARCH: the number that was asked for first; null once it is over.';
comment on column look_asides.joined is 'SEARCH: further numbers, of calls that came before it had begun; empty once it is over.';
comment on column look_asides.has_begun is 'SEARCH: the CRM is asked, and no other number joins. Says nothing of a DELTA.';
comment on column look_asides.mode is 'DELTA: what has changed since the last run. SEARCH: up to four numbers.';

update schema_compatibility set oldest_program = '0.1.0';
