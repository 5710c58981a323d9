SELECT "group", online, unmonitored_until, "by", at FROM group_order ORDER BY "group";
