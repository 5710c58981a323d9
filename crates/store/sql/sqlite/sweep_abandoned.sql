UPDATE body SET dropped_at = ?2 WHERE id IN (
    SELECT id FROM body
    WHERE complete = 0 AND dropped_at IS NULL AND updated_at <= ?1
    ORDER BY updated_at
    LIMIT ?3);
