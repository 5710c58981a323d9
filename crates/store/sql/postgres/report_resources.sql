-- In the order of their names, so that two nodes that report the same resource cannot deadlock.
WITH reported AS (
    INSERT INTO resource_report (resource, node, epoch, state, detail, since, updated_at)
    SELECT resource, node, epoch, state, detail, clock.now, clock.now
    FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[])
        AS report (resource, node, epoch, state, detail), (SELECT baton_now() AS now) AS clock
    ORDER BY resource COLLATE "C"
    ON CONFLICT (resource) DO UPDATE SET
        node = excluded.node, epoch = excluded.epoch, state = excluded.state,
        detail = excluded.detail, updated_at = excluded.updated_at,
        since = CASE WHEN resource_report.state = excluded.state
            THEN resource_report.since ELSE excluded.since END
        WHERE resource_report.epoch <= excluded.epoch
    RETURNING 1
)
SELECT count(*) FROM reported
