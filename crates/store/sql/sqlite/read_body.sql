SELECT substr(data, ?2 - start_offset + 1, ?3) FROM body_chunk
WHERE body_id = ?1 AND start_offset <= ?2
ORDER BY start_offset DESC
LIMIT 1;
