WITH swept AS (
    DELETE FROM receipt
    WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM receipt
        WHERE closed_at <= (SELECT baton_now()) - $1
        LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING 1
)
SELECT count(*) FROM swept
