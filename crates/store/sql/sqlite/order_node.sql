INSERT INTO node_order (node, duty, failback, away_since, quarantine_cleared_at, "by", at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
ON CONFLICT (node) DO UPDATE SET
    duty = excluded.duty, failback = excluded.failback, away_since = excluded.away_since,
    quarantine_cleared_at = excluded.quarantine_cleared_at, "by" = excluded."by",
    at = excluded.at;
