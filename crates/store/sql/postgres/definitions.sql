-- The document only when it is not the version known ($1).
SELECT version, CASE WHEN version <> $1 THEN document END AS document
FROM definitions
ORDER BY version DESC
LIMIT 1
