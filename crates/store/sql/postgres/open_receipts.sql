SELECT key FROM receipt WHERE source = $1 AND closed_at IS NULL ORDER BY key LIMIT $2
