-- Nothing is inserted when $1 is not in force; of two at the same time one meets the other's key.
INSERT INTO definitions (version, document, applied_by, applied_at)
SELECT $1::bigint + 1, $2, $3, baton_now()
WHERE (SELECT coalesce(max(version), 0) FROM definitions) = $1
ON CONFLICT (version) DO NOTHING
RETURNING version
