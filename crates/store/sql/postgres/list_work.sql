-- Postponed work (3) shows as ready.
SELECT work.id, work.message_id, work.port, work.host, (work.state % 3)::smallint AS state,
    work.attempts,
    work.ready_at, work.error, message.published_at, message.publisher, message.context,
    message.body_bytes, message.body_id, message.inline_body
FROM work JOIN message ON message.id = work.message_id
WHERE ($1::smallint IS NULL OR (work.state % 3)::smallint = $1)
    AND ($2::text IS NULL OR work.port = $2)
    AND (cardinality($3::bigint[]) = 0 OR work.id = ANY($3))
    AND (cardinality($5::uuid[]) = 0 OR work.message_id = ANY($5))
    AND work.id > $6
ORDER BY work.id
LIMIT $4
