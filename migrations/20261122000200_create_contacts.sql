-- A person. Dead rows stay as tombstones without personal data, so that an id once given out still leads somewhere.
create table contacts (
    account_id uuid not null,
    contact_id uuid not null,
    display_name text not null,
    organization text not null,
    emails text[] not null,
    -- Made by a call, and without any record yet.
    is_placeholder boolean not null,
    -- With contact_id: the rank "first created". A merge gives the survivor the older one.
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz,
    -- The contact that this one was merged into, and the one at the end of that chain.
    merged_into uuid,
    survivor_id uuid,
    constraint contacts_pkey primary key (account_id, contact_id),
    constraint contacts_alias_check check ((merged_into is null) = (survivor_id is null)),
    constraint contacts_alias_dead_check check (survivor_id is null or deleted_at is not null)
);

-- For pulling the aliases of a contact along when it is merged itself.
create index contacts_survivor_idx on contacts (account_id, survivor_id) where survivor_id is not null;

-- One object in a CRM: which contact it is.
create table external_refs (
    account_id uuid not null,
    integration_id uuid not null,
    object_type text not null,
    record_id text not null,
    -- Null: first seen as deleted.
    contact_id uuid,
    is_live boolean not null,
    -- False: known from a click or a report only; any sync wins over it.
    is_synced boolean not null,
    -- The CRM's update time: an older copy never overwrites a newer one.
    record_updated_at timestamptz,
    role text not null,
    url text not null,
    -- Of everything that a sync copies; equal: nothing to write.
    fingerprint bigint,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint external_refs_pkey primary key (account_id, integration_id, object_type, record_id),
    constraint external_refs_integration_fkey foreign key (account_id, integration_id)
        references integrations (account_id, integration_id),
    constraint external_refs_contact_fkey foreign key (account_id, contact_id) references contacts (account_id, contact_id),
    constraint external_refs_live_check check (not is_live or contact_id is not null)
);

create index external_refs_contact_idx on external_refs (account_id, contact_id) where contact_id is not null;

-- A number, owned by the ref that brought it, or by a placeholder (integration_id zero, object_type and record_id empty).
create table phone_numbers (
    account_id uuid not null,
    contact_id uuid not null,
    integration_id uuid not null,
    object_type text not null,
    record_id text not null,
    position smallint not null,
    raw text not null,
    -- The region that the raw text was read with; empty: none was needed or known.
    region text not null,
    -- E.164 digits; null: not a number that can be called.
    e164 bigint,
    key_version smallint not null,
    extension text not null,
    label text not null,
    -- The contact's rank, kept here too: ordering a shared line by a join cost 160 ms instead of 0.4 ms.
    is_placeholder boolean not null,
    contact_created_at timestamptz not null,
    constraint phone_numbers_pkey primary key (account_id, contact_id, integration_id, object_type, record_id, position),
    constraint phone_numbers_contact_fkey foreign key (account_id, contact_id) references contacts (account_id, contact_id),
    constraint phone_numbers_e164_check check (e164 > 0)
);

-- The look-up of a call: equality on the first two, then the order of the answer.
create index phone_numbers_lookup_idx on phone_numbers (account_id, e164, is_placeholder, contact_created_at, contact_id)
    where e164 is not null;
-- Exactly one stranger to a number, however many calls race.
create unique index phone_numbers_placeholder_key on phone_numbers (account_id, e164) where is_placeholder;

-- A contact as every answer shows it. At most 64 numbers and 32 records.
create view contact_details as
select
    c.account_id,
    c.contact_id,
    json_build_object(
        'contact_id', c.contact_id,
        'display_name', c.display_name,
        'organization', c.organization,
        'emails', c.emails,
        'is_placeholder', c.is_placeholder,
        'created_at', c.created_at,
        'deleted_at', c.deleted_at,
        'survivor_id', c.survivor_id,
        'numbers', coalesce((
            select json_agg(json_build_object('raw', n.raw, 'e164', n.e164, 'label', n.label, 'extension', n.extension))
            from (
                select p.raw, p.e164, p.label, p.extension
                from phone_numbers p
                where p.account_id = c.account_id and p.contact_id = c.contact_id
                order by p.integration_id, p.object_type, p.record_id, p.position
                limit 64
            ) n
        ), '[]'::json),
        'records', coalesce((
            select json_agg(json_build_object(
                'integration_id', r.integration_id, 'object_type', r.object_type, 'record_id', r.record_id,
                'url', r.url, 'is_live', r.is_live, 'role', r.role))
            from (
                select e.integration_id, e.object_type, e.record_id, e.url, e.is_live, e.role
                from external_refs e
                where e.account_id = c.account_id and e.contact_id = c.contact_id
                order by e.is_live desc, e.integration_id, e.object_type, e.record_id
                limit 32
            ) r
        ), '[]'::json)
    ) as details
from contacts c;
