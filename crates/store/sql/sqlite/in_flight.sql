-- Reads all receipts, for want of an index that each publish would have to pay for: an operator
-- asks for it, once.
SELECT source, key, message_id, received_at, closed_at
FROM receipt, (
    SELECT min(at) AS at FROM lease_history WHERE lease = ?1 AND epoch = ?2) AS change
WHERE receipt.lease = ?1 AND receipt.epoch < ?2 AND receipt.received_at <= change.at
    AND (receipt.closed_at IS NULL OR receipt.closed_at >= change.at)
ORDER BY received_at, source, key
LIMIT ?3;
