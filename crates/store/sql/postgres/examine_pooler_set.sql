-- Something that only this session knows.
SELECT set_config('baton.examined', 'yes', false), pg_backend_pid()
