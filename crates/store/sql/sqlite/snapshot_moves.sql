SELECT "group", "to", "by", at FROM move_request ORDER BY "group";
