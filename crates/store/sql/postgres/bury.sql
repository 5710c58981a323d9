-- As in acquire.sql: a holder that renewed since it was judged ($5, $6) is alive after all.
WITH expiry AS (
    DELETE FROM lease_expiry
    WHERE name = $1 AND (NOT $5::boolean OR expires_at = $6)
    RETURNING name
), vacated AS (
    UPDATE lease SET
        epoch = $2::bigint + 1, holder = NULL, cause = $3, reason = $4, offered_to = NULL,
        changed_at = baton_now()
    WHERE name = $1 AND epoch = $2
        AND (EXISTS (SELECT FROM expiry) OR NOT EXISTS (SELECT FROM lease_expiry WHERE name = $1))
    RETURNING name
), freed AS (
    UPDATE work SET
        state = 0, held_lease = NULL, held_epoch = NULL, maybe_delivered = true
    WHERE held_lease = $1 AND state = 1 AND EXISTS (SELECT FROM vacated)
), recorded AS (
    INSERT INTO lease_history (lease, epoch, holder, before, evidence, cause, reason, at, resource)
    SELECT name, $2::bigint + 1, NULL, $7, $8, $3, $4, baton_now(), NULL FROM vacated
)
SELECT count(*) FROM vacated
