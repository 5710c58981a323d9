SELECT lease.name, lease.holder, lease.epoch, lease.changed_at, lease.cause, lease.reason,
    lease.offered_to, coalesce(lease_expiry.expires_at, lease.changed_at) AS expires_at
FROM lease LEFT JOIN lease_expiry ON lease_expiry.name = lease.name
WHERE lease.name NOT LIKE 'node/%'
ORDER BY lease.name
