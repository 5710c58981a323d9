SELECT sequence, at, id, node, subject, sentence
FROM operator_event
WHERE sequence > ?1
    AND (?2 IS NULL OR subject = ?2)
    AND (?3 IS NULL OR id IN (SELECT value FROM json_each(?3)))
    AND (?4 IS NULL OR at >= ?4)
ORDER BY sequence
LIMIT ?5;
