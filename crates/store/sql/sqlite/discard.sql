UPDATE body SET dropped_at = ?2 WHERE id = ?1 AND complete = 0 AND dropped_at IS NULL;
