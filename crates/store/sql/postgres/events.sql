SELECT sequence, at, id, node, subject, sentence
FROM operator_event
WHERE sequence > $1
    AND ($2::text IS NULL OR subject = $2)
    AND (cardinality($3::integer[]) = 0 OR id = ANY($3))
    AND ($4::bigint IS NULL OR at >= $4)
ORDER BY sequence
LIMIT $5
