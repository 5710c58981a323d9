UPDATE body SET complete = 1, updated_at = ?3
WHERE id = ?1 AND bytes = ?2 AND complete = 0 AND dropped_at IS NULL;
