-- What a settlement may end: no RETURNING, which costs SQLite a temporary table for each row.
SELECT message_row, work_rows, body_id
FROM work JOIN message ON message."row" = message_row
WHERE work.id = ?1 AND state = 1 AND held_lease = ?2 AND held_epoch = ?3;
