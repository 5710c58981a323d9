DELETE FROM body WHERE id = ?1;
