DELETE FROM work WHERE id = ?1;
