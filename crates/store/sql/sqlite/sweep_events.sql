-- Of the oldest ?3 those that are older than ?1, or not among the newest ?2.
DELETE FROM operator_event WHERE sequence IN (
    SELECT sequence
    FROM (SELECT sequence, at FROM operator_event ORDER BY sequence LIMIT ?3)
    WHERE at < ?1 OR sequence <= (SELECT max(sequence) FROM operator_event) - ?2);
