-- Steps that this version of Baton does not know (?1 is the last it knows).
SELECT name, usable_from FROM schema_version WHERE version > ?1 ORDER BY version;
