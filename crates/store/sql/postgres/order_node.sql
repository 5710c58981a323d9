-- Asked for anew ($7 is 0): now; otherwise as it was.
INSERT INTO node_order (node, duty, failback, away_since, quarantine_cleared_at, by, at)
VALUES ($1, $2, $3, $4, $5, $6, coalesce(nullif($7::bigint, 0), baton_now()))
ON CONFLICT (node) DO UPDATE SET
    duty = excluded.duty, failback = excluded.failback, away_since = excluded.away_since,
    quarantine_cleared_at = excluded.quarantine_cleared_at, by = excluded.by, at = excluded.at
