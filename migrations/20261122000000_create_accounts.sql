-- Portable SQL: no triggers, sequences or session state. Ids and times come from the service, but for leases.

-- A customer. Every row of every other table belongs to one.
create table accounts (
    account_id uuid not null,
    display_name text not null,
    -- The country of numbers written without one (ISO 3166-1 alpha-2).
    default_region text not null,
    further_regions text[] not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint accounts_pkey primary key (account_id),
    constraint accounts_display_name_check check (char_length(display_name) between 1 and 200),
    constraint accounts_default_region_check check (default_region ~ '^[A-Z]{2}$'),
    constraint accounts_further_regions_check check (cardinality(further_regions) <= 20)
);
