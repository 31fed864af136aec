-- What rekey needs to read (settings.user). As a superuser, in psql; \password asks for the
-- password and sends a verifier, so that it is in no log. Then, in every database that
-- rekey is to look into: GRANT CONNECT, where PUBLIC does not have it.
CREATE ROLE rekey_read LOGIN CONNECTION LIMIT 20;
\password rekey_read
-- "pg_read_all_stats": sessions of other roles (pg_monitor would do as well).
GRANT pg_read_all_stats TO rekey_read;
-- "SELECT on pg_hba_file_rules": which roles are let in without a password. Optional.
GRANT SELECT ON pg_catalog.pg_hba_file_rules TO rekey_read;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_hba_file_rules() TO rekey_read;
