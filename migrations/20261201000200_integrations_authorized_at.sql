-- When an integration was authorized last, so that an uninstall that is told late ends no newer authorization. Null for
-- old rows: nothing is rewritten or read, and calls go on.

alter table integrations add column authorized_at timestamptz;

comment on column integrations.authorized_at is
    'When its credentials were last given, or forgotten; null: not since they were first stored, when it was made.';

update schema_compatibility set oldest_program = '0.1.0';
