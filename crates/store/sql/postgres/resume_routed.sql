-- Routing failures that match now: each becomes one row for each route.
WITH failed AS (
    DELETE FROM work
    WHERE id = ANY($1) AND state = 2 AND port = ''
    RETURNING id, message_id
), routed AS (
    SELECT failed.message_id, route.port, route.host, route.n,
        count(*) OVER (PARTITION BY failed.id)::integer AS work_rows
    FROM unnest($1::bigint[], $2::text[], $3::text[])
            WITH ORDINALITY AS route (id, port, host, n)
        JOIN failed ON failed.id = route.id
), counted AS (
    UPDATE message SET work_rows = routed.work_rows
    FROM (SELECT DISTINCT message_id, work_rows FROM routed) AS routed
    WHERE message.id = routed.message_id
), work_made AS (
    INSERT INTO work (message_id, ready_at, state, alone, host, port)
    SELECT message_id, (SELECT baton_now()), 0, work_rows = 1, host, port FROM routed ORDER BY n
)
SELECT count(*) FROM failed
