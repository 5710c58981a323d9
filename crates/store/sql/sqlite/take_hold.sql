-- What `take` read: the first rows that are ready, up to the last of them.
UPDATE work SET state = 1, held_lease = ?3, held_epoch = ?4
WHERE state = 0 AND host = ?1 AND id <= ?2;
