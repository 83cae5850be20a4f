-- What shows whether events are lost.

alter table push_channels add column registered_at timestamptz;
alter table push_channels add column renewed_at timestamptz;
alter table push_channels add column storm_at timestamptz;
alter table push_channels add column announced bigint not null default 0;
alter table push_channels add column missed bigint not null default 0;

comment on column push_channels.registered_at is 'Since when the webhook is as it is to be: of changes before, no event is missed. Null: it is not yet.';
comment on column push_channels.renewed_at is 'When it was made anew because events were missed; null: never.';
comment on column push_channels.storm_at is 'When a poll was begun in the place of many events: of changes before, no event is missed. Null: never.';
comment on column push_channels.announced is 'Changes of late that were taken in after an event.';
comment on column push_channels.missed is 'Changes of late that only a poll brought, though an event should have come.';

update schema_compatibility set oldest_program = '0.1.0';
