INSERT INTO location_report (
    location, node, epoch, active_since, last_success_at, last_error_at, last_error, received,
    guarantee
) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
ON CONFLICT (location) DO UPDATE SET
    node = excluded.node, epoch = excluded.epoch, active_since = excluded.active_since,
    last_success_at = excluded.last_success_at, last_error_at = excluded.last_error_at,
    last_error = excluded.last_error, received = excluded.received,
    guarantee = excluded.guarantee;
