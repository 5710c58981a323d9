INSERT INTO group_order ("group", online, unmonitored_until, "by", at) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT ("group") DO UPDATE SET
    online = excluded.online, unmonitored_until = excluded.unmonitored_until,
    "by" = excluded."by", at = excluded.at;
