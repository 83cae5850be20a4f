-- When the CRM said that a record is gone, so that a copy from before cannot bring it back.

alter table external_refs add column gone_seen_at timestamptz;

comment on column external_refs.gone_seen_at is
    'Of a record that is gone: when the CRM said so, by its own clock; a copy must be newer to bring it back. Null: not known.';

update schema_compatibility set oldest_program = '0.1.0';
