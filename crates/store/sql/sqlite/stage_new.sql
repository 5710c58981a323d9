INSERT INTO body (id, source, item_key, bytes, complete, updated_at) VALUES (?1, ?2, ?3, 0, 0, ?4);
