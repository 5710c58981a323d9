-- Receipts that were written under an epoch when the next one had begun.
SELECT count(*)
FROM receipt
JOIN lease_history AS next
    ON next.lease = receipt.lease AND next.epoch = receipt.epoch + 1 AND next.holder IS NOT NULL
WHERE receipt.received_at > next.at
