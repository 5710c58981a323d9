INSERT INTO subscription (port, host, filter, definitions_version) VALUES (?1, ?2, ?3, ?4);
