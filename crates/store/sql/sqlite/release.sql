UPDATE lease SET holder = NULL, changed_at = ?4, cause = ?5, reason = ?6, offered_to = ?7
WHERE name = ?1 AND epoch = ?2 AND holder = ?3;
