UPDATE message SET work_rows = work_rows - 1 WHERE "row" = ?1;
