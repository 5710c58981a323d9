-- What is known of a lease and its holder; Rust judges it.
SELECT lease.epoch, lease.holder, lease_expiry.expires_at, lease_expiry.epoch AS expiry_epoch,
    lease_expiry.ttl,
    baton_connected(node.id) AS connected, node.connected_at,
    baton_up_since() AS up_since, baton_now() AS now
FROM (SELECT $1::text AS name) AS asked
    LEFT JOIN lease ON lease.name = asked.name
    LEFT JOIN lease_expiry ON lease_expiry.name = asked.name
    LEFT JOIN node ON node.name = lease.holder
