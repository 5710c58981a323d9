-- The chunk that holds the offset, and those after it; of each only the bytes asked for.
SELECT substr(
        data, greatest($2 - start_offset, 0)::integer + 1,
        ($2 + $3 - greatest(start_offset, $2))::integer) AS bytes
FROM body_chunk JOIN body ON body.id = body_chunk.body_id AND body.dropped_at IS NULL
WHERE body_id = $1 AND start_offset < $2 + $3
    AND start_offset >= (
        SELECT coalesce(max(start_offset), 0) FROM body_chunk
        WHERE body_id = $1 AND start_offset <= $2)
ORDER BY start_offset
