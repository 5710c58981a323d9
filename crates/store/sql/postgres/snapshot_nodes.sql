-- As in presence.sql; what is dear is looked at only when that is asked for ($1): the server's
-- locks, and since when it is up, by which a missing lock is judged.
SELECT node.name, node.machine, node.version, lease.epoch,
    coalesce(lease_expiry.expires_at, lease.changed_at) AS expires_at,
    CASE WHEN $1 THEN node.id = ANY((SELECT baton_connected_nodes())::integer[]) ELSE true END
        AS connected,
    lease.holder IS NULL AS vacant,
    node.connected_at, coalesce(lease_expiry.ttl, 0) AS ttl,
    CASE WHEN $1 THEN (SELECT baton_up_since()) ELSE 0 END AS up_since,
    CASE WHEN $1 THEN (SELECT baton_now()) ELSE 0 END AS now
FROM node
    JOIN lease ON lease.name = 'node/' || node.name
    LEFT JOIN lease_expiry ON lease_expiry.name = lease.name
ORDER BY node.name
