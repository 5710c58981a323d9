SELECT key, message_id, closed_at IS NOT NULL AS closed
FROM receipt
WHERE source = $1 AND key = ANY($2)
