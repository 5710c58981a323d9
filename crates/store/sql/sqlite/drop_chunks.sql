DELETE FROM body_chunk WHERE rowid IN (SELECT rowid FROM body_chunk WHERE body_id = ?1 LIMIT ?2);
