UPDATE work SET
    state = ?4, ready_at = coalesce(?5, ready_at), attempts = attempts + ?6,
    error = coalesce(?7, error),
    maybe_delivered = max(maybe_delivered, ?8), held_lease = NULL, held_epoch = NULL
WHERE id = ?1 AND state = 1 AND held_lease = ?2 AND held_epoch = ?3;
