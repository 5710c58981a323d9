INSERT INTO definitions (version, applied_at, applied_by, document) VALUES (?1, ?2, ?3, ?4);
