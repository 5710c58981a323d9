SELECT node.name, lease.epoch, coalesce(lease_expiry.expires_at, lease.changed_at) AS expires_at,
    baton_connected(node.id) AS connected, lease.holder IS NULL AS vacant,
    node.connected_at, coalesce(lease_expiry.ttl, 0) AS ttl,
    baton_up_since() AS up_since, baton_now() AS now
FROM node
    JOIN lease ON lease.name = 'node/' || node.name
    LEFT JOIN lease_expiry ON lease_expiry.name = lease.name
ORDER BY node.name
