-- Waits for the running transactions of the holder and keeps new ones out.
SELECT pg_advisory_xact_lock(baton_fence_key($1))
