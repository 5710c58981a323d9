SELECT current_setting('server_version') AS version,
    current_setting('server_version_num')::integer AS version_number,
    pg_is_in_recovery() AS is_standby,
    current_setting('fsync') = 'on' AS fsync,
    current_setting('full_page_writes') = 'on' AS full_page_writes,
    current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('synchronous_standby_names') AS synchronous_standby_names,
    current_setting('default_transaction_isolation') AS isolation,
    current_setting('plan_cache_mode') AS plan_cache_mode,
    -- In milliseconds, which is their unit in pg_settings.
    (SELECT setting::bigint FROM pg_settings WHERE name = 'idle_session_timeout') AS idle_session,
    (SELECT setting::bigint FROM pg_settings
        WHERE name = 'idle_in_transaction_session_timeout') AS idle_in_transaction,
    current_setting('max_connections')::bigint
        - current_setting('superuser_reserved_connections')::bigint AS connections_max,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS connections,
    pg_database_size(current_database()) AS bytes,
    current_database()::text AS database, current_user::text AS user_name
