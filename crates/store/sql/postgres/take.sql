-- Two searches, so that any number of postponed rows does not stand in the way of those that are
-- due. baton_now() stands in a subquery so that an index can be searched for its result.
WITH ready AS (
    SELECT id FROM work
    WHERE host = $3 AND state = 0
    ORDER BY id LIMIT $4 FOR UPDATE SKIP LOCKED
), postponed AS (
    SELECT id FROM work
    WHERE host = $3 AND state = 3 AND ready_at <= (SELECT baton_now())
    ORDER BY ready_at LIMIT $4 FOR UPDATE SKIP LOCKED
), due AS (
    SELECT id FROM (SELECT id FROM ready UNION ALL SELECT id FROM postponed) AS due
    ORDER BY id LIMIT $4
), taken AS (
    UPDATE work SET state = 1, held_lease = $1, held_epoch = $2
    WHERE id = ANY(ARRAY(SELECT id FROM due))
    RETURNING work.id, work.port, work.message_id, work.attempts, work.maybe_delivered
)
SELECT taken.id, taken.port, taken.message_id, taken.attempts, taken.maybe_delivered,
    message.context, message.body_bytes, message.body_id, message.inline_body
FROM taken JOIN message ON message.id = taken.message_id
ORDER BY taken.id
