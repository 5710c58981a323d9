UPDATE receipt SET closed_at = (SELECT baton_now())
WHERE source = $1 AND key = ANY($2) AND closed_at IS NULL
