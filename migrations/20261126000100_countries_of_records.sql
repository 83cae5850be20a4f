-- The country of a record's address, by which its numbers are read: ISO 3166-1 alpha-2, empty if the CRM does not say.
-- Not null with a constant default: no row is rewritten.
alter table external_refs add column region text not null default '';
