SELECT message.rowid, work_rows, body_id
FROM work JOIN message ON message.id = message_id
WHERE work.id = ?1 AND state <> 1;
