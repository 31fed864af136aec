-- What rekey needs to act (settings.write_user). As a superuser, in psql. This role can
-- make and change roles: keep its password where only rekey's workers read it.
-- "CREATEROLE": NOLOGIN, the replacement, PASSWORD NULL, DROP ROLE.
-- "pg_signal_backend": to end sessions; pg_read_all_stats: to see when they began.
-- Sessions and roles of a superuser need
-- "SUPERUSER", which rekey should not have: those are for a person.
CREATE ROLE rekey_write LOGIN CREATEROLE CONNECTION LIMIT 20;
\password rekey_write
GRANT pg_signal_backend, pg_read_all_stats TO rekey_write;
-- From PostgreSQL 16 on CREATEROLE reaches only roles given to it; for each application's
-- role, here app:
--   GRANT app TO rekey_write WITH ADMIN OPTION, INHERIT FALSE, SET FALSE;
-- "write access to store_dir" is of the operating system: the folder belongs to the user
-- that the workers run as, mode 0700, or 2750 with the readers' group and store_mode 0640.
