SELECT min(ready_at) FROM work WHERE state = 3 AND host = ?1;
