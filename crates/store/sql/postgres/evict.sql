-- The lease is vacant by now, and keeps its epoch.
WITH reports AS (
    DELETE FROM resource_report WHERE node = $1
), orders AS (
    DELETE FROM node_order WHERE node = $1
), evicted AS (
    DELETE FROM node WHERE name = $1 RETURNING name
)
SELECT count(*) FROM evicted
