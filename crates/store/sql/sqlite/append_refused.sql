SELECT bytes, complete FROM body WHERE id = ?1 AND dropped_at IS NULL;
