DELETE FROM receipt WHERE (source, key) IN (
    SELECT source, key FROM receipt WHERE closed_at <= ?1 ORDER BY closed_at LIMIT ?2);
