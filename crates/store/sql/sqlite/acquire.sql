-- Takes a lease, or vacates it for nobody (no holder), under a new epoch.
INSERT INTO lease (name, epoch, holder, changed_at, cause, reason, offered_to)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL)
ON CONFLICT (name) DO UPDATE SET
    epoch = excluded.epoch, holder = excluded.holder, changed_at = excluded.changed_at,
    cause = excluded.cause, reason = excluded.reason, offered_to = NULL;
