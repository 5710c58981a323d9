INSERT INTO schema_version (name, sha256, applied_at) VALUES (?1, ?2, ?3);
