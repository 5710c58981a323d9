-- What is the same for all nodes is asked for once, in subqueries: a look at all locks of the
-- server for each node would take 64 nodes as many times longer.
SELECT node.name, node.id = ANY((SELECT baton_connected_nodes())::integer[]) AS connected,
    lease.holder IS NULL AS vacant,
    node.connected_at, coalesce(lease_expiry.ttl, 0) AS ttl,
    (SELECT baton_up_since()) AS up_since, (SELECT baton_now()) AS now
FROM node
    JOIN lease ON lease.name = 'node/' || node.name
    LEFT JOIN lease_expiry ON lease_expiry.name = lease.name
ORDER BY node.name
