-- Records this life of the database server (see store_life in the first migration), if it is new.
WITH recorded AS (
    INSERT INTO store_life (timeline, began_at) VALUES (baton_timeline(), baton_now())
    ON CONFLICT (timeline) DO NOTHING
)
SELECT pg_backend_pid() AS pid
