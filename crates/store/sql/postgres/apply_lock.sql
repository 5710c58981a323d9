-- Waits for the publishes under way; see baton_fence().
SELECT pg_advisory_xact_lock(baton_routes_key())
