UPDATE work SET state = 0 WHERE state = 3 AND host = ?1 AND ready_at <= ?2;
