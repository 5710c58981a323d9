SELECT work.id, message.id, port, host, state, attempts, ready_at, error, published_at, publisher,
    context, body_bytes, inline_body, body_id
FROM work JOIN message ON message."row" = message_row
WHERE (?1 IS NULL OR CASE state WHEN 3 THEN 0 ELSE state END = ?1)
    AND (?2 IS NULL OR port = ?2)
    AND work.id > ?3
ORDER BY work.id
LIMIT ?4;
