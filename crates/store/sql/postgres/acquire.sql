-- Renewals do not queue for the fence key, so the expiry judged must still be there ($7, $8): a
-- holder that renewed meanwhile is alive after all, and nothing happens.
WITH expiry AS (
    INSERT INTO lease_expiry (name, epoch, expires_at, ttl)
    VALUES ($1, $2::bigint + 1, baton_now() + $4::bigint, $4)
    ON CONFLICT (name) DO UPDATE SET
        epoch = excluded.epoch, expires_at = excluded.expires_at, ttl = excluded.ttl
        WHERE NOT $7::boolean OR lease_expiry.expires_at = $8
    RETURNING name
), taken AS (
    INSERT INTO lease (name, epoch, holder, cause, reason, changed_at)
    SELECT name, $2::bigint + 1, $3, $5, $6, baton_now() FROM expiry
    ON CONFLICT (name) DO UPDATE SET
        epoch = excluded.epoch, holder = excluded.holder, cause = excluded.cause,
        reason = excluded.reason, offered_to = NULL, changed_at = excluded.changed_at
        WHERE lease.epoch = $2
    RETURNING name
), freed AS (
    UPDATE work SET
        state = 0, held_lease = NULL, held_epoch = NULL, maybe_delivered = true
    WHERE held_lease = $1 AND state = 1 AND EXISTS (SELECT FROM taken)
), moved AS (
    DELETE FROM move_request
    WHERE 'group/' || "group" = $1 AND ("to" = $3 OR "to" IS NULL)
        AND $9 IS DISTINCT FROM $3 AND EXISTS (SELECT FROM taken)
), recorded AS (
    INSERT INTO lease_history (lease, epoch, holder, before, evidence, cause, reason, at, resource)
    SELECT name, $2::bigint + 1, $3, $9, $10, $5, $6, baton_now(), $11 FROM taken
)
SELECT count(*) FROM taken
