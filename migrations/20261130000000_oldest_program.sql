-- Binaries roll back alone: a program runs on every schema that does not say here that it is too old for it. Each later migration
-- writes this row as its last statement, by `update`. How to write one: docs/writing-migrations.md.

create table schema_compatibility (
    is_only boolean not null default true,
    oldest_program text not null,
    constraint schema_compatibility_pkey primary key (is_only),
    constraint schema_compatibility_only_check check (is_only),
    constraint schema_compatibility_program_check check (oldest_program ~ '^[0-9]+[.][0-9]+[.][0-9]+$')
);

comment on table schema_compatibility is 'Which programs run on this schema; one row, of no account.';
comment on column schema_compatibility.is_only is 'True: there is one row.';
comment on column schema_compatibility.oldest_program is
    'The version of the oldest program whose statements run on this schema. Older ones do not start.';

insert into schema_compatibility (oldest_program) values ('0.1.0');
