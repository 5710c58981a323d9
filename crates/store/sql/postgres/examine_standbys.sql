-- Without the right to see it, the state is null.
SELECT coalesce(application_name, '') AS name, coalesce(state, '') AS state,
    coalesce(sync_state, '') AS sync_state
FROM pg_stat_replication
ORDER BY 1
