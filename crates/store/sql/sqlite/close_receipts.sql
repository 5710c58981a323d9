UPDATE receipt SET closed_at = ?3 WHERE source = ?1 AND key = ?2 AND closed_at IS NULL;
