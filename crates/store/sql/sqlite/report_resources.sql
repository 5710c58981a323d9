INSERT INTO resource_report (resource, node, epoch, state, detail, since)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (resource) DO UPDATE SET
    node = excluded.node, epoch = excluded.epoch, state = excluded.state,
    detail = excluded.detail,
    since = CASE WHEN resource_report.state = excluded.state
        THEN resource_report.since ELSE excluded.since END
WHERE resource_report.epoch <= excluded.epoch;
