-- Ends the other sessions that hold the fence key of a lease.
SELECT pg_locks.pid, coalesce(application_name, '') AS application_name,
    pg_terminate_backend(pg_locks.pid) AS ended
FROM pg_locks LEFT JOIN pg_stat_activity ON pg_stat_activity.pid = pg_locks.pid
WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND pg_locks.pid <> pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND classid = ((baton_fence_key($1) >> 32) & 4294967295)::oid
    AND objid = (baton_fence_key($1) & 4294967295)::oid
