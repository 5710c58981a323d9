-- Sessions that wait for the fence key of a lease.
SELECT count(*) FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND NOT granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND classid = ((baton_fence_key($1) >> 32) & 4294967295)::oid
    AND objid = (baton_fence_key($1) & 4294967295)::oid
