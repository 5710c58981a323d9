-- Whoever held it did not say what became of it, so the peer may have it already.
UPDATE work SET state = 0, maybe_delivered = 1, held_lease = NULL, held_epoch = NULL
WHERE state = 1 AND held_lease = ?1;
