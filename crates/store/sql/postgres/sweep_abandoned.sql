-- Staged bodies that nobody went on with.
WITH swept AS (
    UPDATE body SET dropped_at = baton_now()
    WHERE id = ANY(ARRAY(
        SELECT id FROM body
        WHERE NOT complete AND dropped_at IS NULL AND updated_at <= (SELECT baton_now()) - $1
        LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING 1
)
SELECT count(*) FROM swept
