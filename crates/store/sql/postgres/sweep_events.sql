-- Of the oldest $3 those that are older than $1, or not among the newest $2.
WITH oldest AS (
    SELECT sequence, at FROM operator_event ORDER BY sequence LIMIT $3
), swept AS (
    DELETE FROM operator_event
    WHERE sequence = ANY(ARRAY(
        SELECT sequence FROM oldest
        WHERE at < (SELECT baton_now()) - $1
            OR sequence <= (SELECT max(sequence) FROM operator_event) - $2))
    RETURNING 1
)
SELECT count(*) FROM swept
