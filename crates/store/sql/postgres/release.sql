WITH vacated AS (
    UPDATE lease SET
        holder = NULL, cause = $4, reason = $5, offered_to = $6, changed_at = baton_now()
    WHERE name = $1 AND epoch = $2 AND holder = $3
    RETURNING name
), expiry AS (
    DELETE FROM lease_expiry USING vacated WHERE lease_expiry.name = vacated.name
), freed AS (
    UPDATE work SET
        state = 0, held_lease = NULL, held_epoch = NULL, maybe_delivered = true
    WHERE held_lease = $1 AND state = 1 AND EXISTS (SELECT FROM vacated)
), recorded AS (
    INSERT INTO lease_history (lease, epoch, holder, before, evidence, cause, reason, at, resource)
    SELECT name, $2, NULL, $3, $7, $4, $5, baton_now(), $8 FROM vacated
)
SELECT count(*) FROM vacated
