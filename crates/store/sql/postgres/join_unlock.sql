-- Ends the session that holds a liveness lock: any, or the one with this process id.
SELECT pid, pg_terminate_backend(pid) AS ended FROM pg_locks
WHERE locktype = 'advisory' AND classid = 1650553967::oid AND objsubid = 2 AND granted
    AND mode = 'ExclusiveLock' AND objid = $1::integer::oid AND ($2::integer IS NULL OR pid = $2)
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND pid <> pg_backend_pid()
