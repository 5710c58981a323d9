WITH extended AS (
    UPDATE body SET bytes = bytes + octet_length($3::bytea), updated_at = baton_now()
    WHERE id = $1 AND bytes = $2 AND NOT complete AND dropped_at IS NULL
    RETURNING id
)
INSERT INTO body_chunk (body_id, start_offset, data) SELECT id, $2, $3::bytea FROM extended
RETURNING start_offset
