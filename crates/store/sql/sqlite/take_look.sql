-- Whether a take would find anything; asked before it queues for its turn to write.
SELECT EXISTS (SELECT 1 FROM work WHERE state = 0 AND host = ?1)
    OR EXISTS (SELECT 1 FROM work WHERE state = 3 AND host = ?1 AND ready_at <= ?2);
