-- Liveness locks are the database's, by the node's id, so ids here begin where no real one is.
SELECT setval('node_id_seq', $1)
