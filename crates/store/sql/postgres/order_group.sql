-- Asked for anew ($5 is 0): now; otherwise as it was.
INSERT INTO group_order ("group", online, unmonitored_until, by, at)
VALUES ($1, $2, $3, $4, coalesce(nullif($5::bigint, 0), baton_now()))
ON CONFLICT ("group") DO UPDATE SET
    online = excluded.online, unmonitored_until = excluded.unmonitored_until, by = excluded.by,
    at = excluded.at
