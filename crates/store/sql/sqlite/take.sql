SELECT work.id, port, message.id, context, body_bytes, inline_body, body_id, attempts,
    maybe_delivered
FROM work JOIN message ON message."row" = message_row
WHERE state = 0 AND host = ?1
ORDER BY work.id
LIMIT ?2;
