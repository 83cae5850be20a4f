#!/bin/sh
# Run once by PostgreSQL's image, as the owner of the tables: the role that serves owns nothing.
set -eu
psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
  --set password="$(cat /run/secrets/service-password)" <<'SQL'
create role contact_sync_service login password :'password';
alter default privileges grant select, insert, update, delete on tables to contact_sync_service;
SQL
