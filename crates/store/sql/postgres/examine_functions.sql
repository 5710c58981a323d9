SELECT proname::text AS name, md5(prosrc) AS digest
FROM pg_proc
WHERE pronamespace = current_schema()::regnamespace AND proname LIKE 'baton\_%'
ORDER BY 1
