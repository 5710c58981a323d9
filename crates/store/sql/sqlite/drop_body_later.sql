UPDATE body SET dropped_at = ?2 WHERE id = ?1;
