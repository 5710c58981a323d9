SELECT 1 FROM lease WHERE name = ?1 AND epoch = ?2 AND holder = ?3;
