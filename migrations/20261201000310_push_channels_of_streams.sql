-- A CRM that is listened to has no webhook: its row says only how changes arrive.

alter table push_channels alter column hook_number drop not null;
alter table push_channels alter column secret drop not null;

comment on column push_channels.hook_number is
    'Random; with the account''s id and a keyed tag it is the address that the CRM sends to. Null: there is no webhook, its changes are a stream.';
comment on column push_channels.secret is
    'By which the CRM shows that an event is its own; sealed by the vault. Null: there is no webhook.';

update schema_compatibility set oldest_program = '0.1.0';
