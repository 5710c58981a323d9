INSERT INTO work (message_row, host, port, state, ready_at, attempts, maybe_delivered, error)
VALUES (?1, ?2, ?3, ?4, ?5, 0, 0, ?6);
