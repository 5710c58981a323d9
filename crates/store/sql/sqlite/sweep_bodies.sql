SELECT id FROM body WHERE dropped_at IS NOT NULL ORDER BY dropped_at LIMIT ?1;
