-- `lease` is only read (nobody's lock is waited for); the row that is updated decides by its epoch.
UPDATE lease_expiry SET expires_at = baton_now() + $4::bigint, ttl = $4
FROM unnest($2::text[], $3::bigint[]) AS held (name, epoch), lease
WHERE lease_expiry.name = held.name AND lease_expiry.epoch = held.epoch
    AND lease.name = held.name AND lease.epoch = held.epoch AND lease.holder = $1
RETURNING lease_expiry.name, lease_expiry.epoch
