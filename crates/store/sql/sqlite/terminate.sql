SELECT message_row, work_rows, body_id
FROM work JOIN message ON message."row" = message_row
WHERE work.id = ?1 AND state <> 1;
