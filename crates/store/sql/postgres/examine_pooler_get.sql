SELECT coalesce(current_setting('baton.examined', true), ''), pg_backend_pid()
