DELETE FROM message WHERE "row" = ?1;
