-- A routing failure ends, and work for its subscribers takes its place.
DELETE FROM work WHERE id = ?1 AND state = 2 AND port = '' RETURNING message_row;
