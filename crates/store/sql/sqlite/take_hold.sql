UPDATE work SET state = 1, held_lease = ?2, held_epoch = ?3 WHERE id = ?1;
