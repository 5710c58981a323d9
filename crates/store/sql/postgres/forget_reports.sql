-- Reports of what the definitions do not have ($1), if they are still those in force ($2).
DELETE FROM resource_report
WHERE resource <> ALL($1::text[]) AND (SELECT coalesce(max(version), 0) FROM definitions) = $2
