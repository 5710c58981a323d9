-- Receipts first: a message whose item has an open receipt goes no further. Items are in the order
-- of their keys, so that two publishers of one source cannot deadlock.
WITH offered AS (
    SELECT * FROM unnest(
        $3::uuid[], $4::text[], $5::text[], $6::bytea[], $7::bigint[], $8::uuid[], $9::text[],
        $10::text[], $11::integer[]
    ) AS offered (
        id, publisher, context, inline_body, body_bytes, body_id, source, key, work_rows)
), taken_in AS (
    INSERT INTO receipt (source, key, message_id, lease, epoch, received_at)
    SELECT source, key, id, $1, $2, (SELECT baton_now())
    FROM offered WHERE source IS NOT NULL ORDER BY source COLLATE "C", key COLLATE "C"
    ON CONFLICT (source, key) DO UPDATE SET
        message_id = excluded.message_id, lease = excluded.lease, epoch = excluded.epoch,
        received_at = excluded.received_at, closed_at = NULL
        WHERE receipt.closed_at IS NOT NULL
    RETURNING message_id
), accepted AS (
    SELECT * FROM offered
    WHERE source IS NULL OR id IN (SELECT message_id FROM taken_in)
), completed AS (
    UPDATE body SET complete = true
    FROM accepted
    WHERE body.id = accepted.body_id AND body.bytes = accepted.body_bytes
        AND NOT body.complete AND body.dropped_at IS NULL
    RETURNING body.id
), message_kept AS (
    INSERT INTO message (
        id, published_at, epoch, body_bytes, body_id, work_rows, lease, publisher, context,
        inline_body)
    SELECT id, (SELECT baton_now()), $2, body_bytes, body_id, work_rows, $1, publisher, context,
        inline_body
    FROM accepted
), work_made AS (
    INSERT INTO work (message_id, ready_at, state, alone, host, port, error)
    SELECT route.message_id, (SELECT baton_now()), CASE WHEN route.port = '' THEN 2 ELSE 0 END,
        route.alone, route.host, route.port, nullif(route.error, '')
    FROM unnest($12::uuid[], $13::text[], $14::text[], $15::text[], $16::boolean[])
        AS route (message_id, port, host, error, alone)
    -- IS TRUE keeps the planner from a join: a search in a hash table is all that is needed.
    WHERE (route.message_id IN (SELECT id FROM accepted)) IS TRUE
)
-- What was left out; what is in chunks, and whether they were staged as the publisher thinks.
SELECT offered.id, offered.id IN (SELECT id FROM accepted) AS accepted,
    coalesce(offered.body_id IN (SELECT id FROM completed), false) AS completed
FROM offered
WHERE offered.body_id IS NOT NULL OR NOT offered.id IN (SELECT id FROM accepted)
