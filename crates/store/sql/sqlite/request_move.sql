INSERT INTO move_request ("group", "to", "by", at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT ("group") DO UPDATE SET "to" = excluded."to", "by" = excluded."by", at = excluded.at;
