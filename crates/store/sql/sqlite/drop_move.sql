DELETE FROM move_request WHERE "group" = ?1;
