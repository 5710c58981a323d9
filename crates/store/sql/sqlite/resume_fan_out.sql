UPDATE message SET work_rows = work_rows + ?2 WHERE "row" = ?1;
