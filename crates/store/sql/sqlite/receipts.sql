SELECT key, message_id, closed_at IS NOT NULL FROM receipt WHERE source = ?1 AND key = ?2;
