WITH resumed AS (
    UPDATE work SET state = 0, ready_at = baton_now(), attempts = 0
    WHERE id = ANY($1) AND state = 2 AND port <> ''
    RETURNING 1
)
SELECT count(*) FROM resumed
