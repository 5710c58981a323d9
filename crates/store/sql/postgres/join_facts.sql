UPDATE node
SET machine = $2, pid = $3, version = $4, joined_at = baton_now(), connected_at = baton_now()
WHERE id = $1
