INSERT INTO body (id, source, item_key, bytes, complete, updated_at)
VALUES ($1, $2, $3, 0, false, baton_now())
ON CONFLICT (source, item_key) WHERE NOT complete AND dropped_at IS NULL
    DO UPDATE SET updated_at = excluded.updated_at
RETURNING id, bytes
