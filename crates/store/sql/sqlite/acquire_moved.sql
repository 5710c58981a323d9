DELETE FROM move_request WHERE "group" = ?1 AND ("to" IS NULL OR "to" = ?2);
