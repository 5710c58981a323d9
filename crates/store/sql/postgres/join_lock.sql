-- The liveness lock. Taken once for each session: session locks stack.
SELECT pg_try_advisory_lock(1650553967, $1)
