SELECT node, duty, failback, away_since, quarantine_cleared_at, by, at
FROM node_order
ORDER BY node
