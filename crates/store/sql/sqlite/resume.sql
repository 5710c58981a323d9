-- It has all its tries again.
UPDATE work SET state = 0, ready_at = ?2, attempts = 0 WHERE id = ?1 AND state = 2 AND port <> '';
