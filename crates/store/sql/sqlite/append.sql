UPDATE body SET bytes = bytes + ?3, updated_at = ?4
WHERE id = ?1 AND bytes = ?2 AND complete = 0 AND dropped_at IS NULL;
