DELETE FROM move_request WHERE "group" = $1 AND at = $2
