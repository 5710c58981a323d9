DELETE FROM lease_history WHERE id IN (
    SELECT id FROM lease_history
    WHERE at < ?1 AND id <= (SELECT max(id) FROM lease_history) - ?2
    ORDER BY id
    LIMIT ?3);
