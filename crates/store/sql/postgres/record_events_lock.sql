SELECT pg_advisory_xact_lock(baton_events_key())
