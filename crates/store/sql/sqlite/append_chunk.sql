INSERT INTO body_chunk (body_id, start_offset, data) VALUES (?1, ?2, ?3);
