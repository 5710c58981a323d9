SELECT id, bytes FROM body
WHERE source = ?1 AND item_key = ?2 AND complete = 0 AND dropped_at IS NULL;
