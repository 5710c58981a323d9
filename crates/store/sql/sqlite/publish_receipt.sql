-- Changes no row when the item has an open receipt: it is a duplicate.
INSERT INTO receipt (source, key, message_id, lease, epoch, received_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (source, key) DO UPDATE SET
    message_id = excluded.message_id, lease = excluded.lease, epoch = excluded.epoch,
    received_at = excluded.received_at, closed_at = NULL
WHERE closed_at IS NOT NULL;
