-- Waits for a take whose answer was lost and that still runs: it holds the key shared.
SELECT pg_advisory_xact_lock(baton_fence_key($1))
