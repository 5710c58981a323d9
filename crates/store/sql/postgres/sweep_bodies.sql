-- The chunks of one dropped body, as many as allowed; the body goes after its last chunk.
WITH dropped AS (
    SELECT id FROM body WHERE dropped_at IS NOT NULL
    ORDER BY dropped_at LIMIT 1 FOR UPDATE SKIP LOCKED
), chunks_gone AS (
    DELETE FROM body_chunk
    WHERE ctid = ANY(ARRAY(
        SELECT body_chunk.ctid FROM body_chunk JOIN dropped ON body_chunk.body_id = dropped.id
        LIMIT $1))
    RETURNING body_id
), body_gone AS (
    DELETE FROM body USING dropped
    WHERE body.id = dropped.id AND (SELECT count(*) FROM chunks_gone) < $1
    RETURNING body.id
)
SELECT (SELECT count(*) FROM chunks_gone) + (SELECT count(*) FROM body_gone)
