-- no-transaction
-- A CRM that tells of an uninstall names a company by its own number, and nobody's account.
drop index concurrently if exists integrations_company_idx;
create index concurrently integrations_company_idx on integrations (provider, company_id) where company_id is not null;
update schema_compatibility set oldest_program = '0.1.0';
