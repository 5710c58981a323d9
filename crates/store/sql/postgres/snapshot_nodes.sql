-- As in presence.sql; the server's locks are looked at only when that is asked for ($1).
SELECT node.name, node.machine, node.version, lease.epoch,
    coalesce(lease_expiry.expires_at, lease.changed_at) AS expires_at,
    CASE WHEN $1 THEN node.id = ANY((SELECT baton_connected_nodes())::integer[]) ELSE true END
        AS connected,
    lease.holder IS NULL AS vacant,
    node.connected_at, coalesce(lease_expiry.ttl, 0) AS ttl,
    (SELECT baton_up_since()) AS up_since, (SELECT baton_now()) AS now
FROM node
    JOIN lease ON lease.name = 'node/' || node.name
    LEFT JOIN lease_expiry ON lease_expiry.name = lease.name
ORDER BY node.name
