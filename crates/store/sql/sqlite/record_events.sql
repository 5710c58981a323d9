INSERT INTO operator_event (at, id, node, subject, sentence) VALUES (?1, ?2, ?3, ?4, ?5);
